"""Clients of two APIs that are two releases: what one accepts they look at through the other."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from redis import RedisError

from tests.chaos.code_trees import CHOSEN, OPTION
from tests.chaos.storm import CALLBACK, MAX_OPEN
from tests.uploads import picture, tone
from worker.contract.messages import JobState
from worker.contract.queues import connect

NUM_POSTING: Final = 4
NUM_LOOKING: Final = 2
_NEWEST: Final = 20
"""So many of the newest jobs must stand on a page of 100, whatever else was accepted meanwhile."""
_UNANSWERED: Final = "store_unavailable"
"""The one problem above 499 that a storm excuses: Redis was killed."""


@dataclass(frozen=True)
class Posted:
    """A job as its client knows it.

    Args:
        id: The job.
        api: Name of the API that accepted it.
        seed: Its option.
        has_option: Whether it needs the next release.
    """

    id: str
    api: str
    seed: int
    has_option: bool


class VersionClients:
    """Post, look, cancel and delete from several threads until told to end.

    Args:
        urls: The APIs by name: `previous` and `next`.
        redis_url: Asked for how many jobs are open.
        seed: Of the choices.
        video: What a quarter of the posts sends to be dubbed.
    """

    def __init__(self, urls: Mapping[str, str], redis_url: str, seed: int, video: bytes) -> None:
        self._urls = dict(urls)
        self._video = video
        self._redis_url = redis_url
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=target, args=(random.Random(f"{seed} {number}"),))
            for number, target in enumerate([self._post] * NUM_POSTING + [self._look] * NUM_LOOKING)
        ]
        self._visible: list[Posted] = []
        self.accepted: dict[str, Posted] = {}
        self.cancelled: set[str] = set()
        self.deleted: set[str] = set()
        self.gone: set[str] = set()
        """Jobs whose deletion was answered with 204."""
        self.refused = 0
        self.looks: Counter[str] = Counter()
        self.misread: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    # --- those who post -------------------------------------------------------------------------

    def _post(self, choice: random.Random) -> None:
        with connect(self._redis_url) as redis, httpx2.Client(timeout=30.0) as client:
            while not self._ended.wait(0.1):
                try:
                    if int(redis.zcard("tf:{j}:open")) > MAX_OPEN:
                        continue
                except RedisError:
                    continue
                self._post_one(client, choice)

    def _post_one(self, client: httpx2.Client, choice: random.Random) -> None:
        api, seed = choice.choice(sorted(self._urls)), choice.randrange(1, 2**32)
        has_option = api == "next" and choice.random() < 0.5
        data = {"callback_url": CALLBACK, "seed": str(seed)}
        if has_option:
            data[OPTION] = str(CHOSEN)
        key = {"Idempotency-Key": f"{seed}-{choice.random()}"}
        files = {"audio": ("a.wav", tone(1.0)), "image": ("i.jpg", picture())}
        if choice.random() < 0.25:
            files = {"audio": ("a.wav", tone(1.0)), "video": ("v.mp4", self._video)}

        def post(where: str) -> httpx2.Response | None:
            url = f"{self._urls[where]}/v1/talking-face"
            return self._ask(
                lambda: client.post(url, files=files, data=data, headers=key),
                f"post to {where}",
                expected={202, 409},
            )

        response = post(api)
        if response is None and not has_option:
            # As a client does whose answer was broken off, through whichever API it comes to.
            response = post(self._other(api))
        if response is None:
            with self._lock:
                self.refused += 1
            return
        if response.status_code == 409:
            # The first request is still in flight, or holds the key although its process died.
            self._expect_code(response, "idempotency_in_progress", f"post to {api}")
            with self._lock:
                self.refused += 1
            return
        posted = Posted(str(response.json()["id"]), api, seed, has_option)
        with self._lock:
            self.accepted[posted.id] = posted
            self._visible.append(posted)

    # --- those who look -------------------------------------------------------------------------

    def _look(self, choice: random.Random) -> None:
        with httpx2.Client(timeout=30.0) as client:
            while not self._ended.wait(0.1):
                with self._lock:
                    recent = self._visible[-100:]
                if len(recent) < _NEWEST:
                    continue
                posted = choice.choice(recent)
                [action] = choice.choices(
                    [self._get, self._list, self._events, self._cancel, self._delete],
                    weights=[60, 20, 10, 5, 2],
                )
                if action in (self._cancel, self._delete):
                    posted = choice.choice(recent[-10:])
                action(client, posted, self._other(posted.api))

    def _get(self, client: httpx2.Client, posted: Posted, api: str) -> None:
        url = f"{self._urls[api]}/v1/jobs/{posted.id}"
        response = self._ask(
            lambda: client.get(url, params={"wait": 1}), f"get from {api}", expected={200, 404}
        )
        if response is None:
            return
        if response.status_code == 404:
            self._expect(posted.id in self.deleted, f"get from {api}: {posted.id} is not found")
            return
        self._expect_job(response.json(), posted, api)

    def _list(self, client: httpx2.Client, posted: Posted, api: str) -> None:
        with self._lock:
            newest = [one.id for one in self._visible[-_NEWEST:]]
        response = self._ask(
            lambda: client.get(f"{self._urls[api]}/v1/jobs", params={"limit": 100}),
            f"list from {api}",
            expected={200},
        )
        if response is None:
            return
        listed = {str(job["id"]) for job in response.json()["data"]}
        for job_id in newest:
            is_there = job_id in listed or job_id in self.deleted
            self._expect(is_there, f"list from {api}: {job_id} is left out")

    def _events(self, client: httpx2.Client, posted: Posted, api: str) -> None:
        """The whole stream of a job; it ends with the job, or with its API."""
        url = f"{self._urls[api]}/v1/jobs/{posted.id}/events"
        response = self._ask(lambda: client.get(url), f"events from {api}", expected={200, 404})
        if response is None or response.status_code == 404:
            return
        names = [line for line in response.text.splitlines() if line.startswith("event: ")]
        known = {"event: state", "event: progress", "event: job", "event: deleted"}
        self._expect(set(names) <= known, f"events from {api}: {set(names) - known}")

    def _cancel(self, client: httpx2.Client, posted: Posted, api: str) -> None:
        with self._lock:
            self.cancelled.add(posted.id)
        url = f"{self._urls[api]}/v1/jobs/{posted.id}/cancel"
        self._ask(lambda: client.post(url), f"cancel through {api}", expected={200, 202, 404, 409})

    def _delete(self, client: httpx2.Client, posted: Posted, api: str) -> None:
        with self._lock:
            self.deleted.add(posted.id)
            self._visible = [one for one in self._visible if one.id != posted.id]
        url = f"{self._urls[api]}/v1/jobs/{posted.id}"
        response = self._ask(
            lambda: client.delete(url), f"delete through {api}", expected={204, 404}
        )
        if response is not None and response.status_code == 204:
            with self._lock:
                self.gone.add(posted.id)

    # --- what an answer may be ------------------------------------------------------------------

    def _ask(
        self, call: Callable[[], httpx2.Response], what: str, *, expected: set[int]
    ) -> httpx2.Response | None:
        """The answer, or None where the storm took it; anything else is noted as a fault."""
        try:
            response = call()
        except httpx2.HTTPError:
            # The API was killed while it worked on this request.
            with self._lock:
                self.looks[f"{what}: broken off"] += 1
            return None
        if response.status_code == 503:
            self._expect_code(response, _UNANSWERED, what)
            with self._lock:
                self.looks[f"{what}: 503"] += 1
            return None
        if response.status_code not in expected:
            self._expect(False, f"{what}: {response.status_code} {response.text[:300]}")
            return None
        with self._lock:
            self.looks[what] += 1
        return response

    def _expect_job(self, job: Mapping[str, Any], posted: Posted, api: str) -> None:
        options = job["input"]["options"]
        told = (job["id"], options["seed"], job["state"] in set(JobState), options.get(OPTION))
        chosen = CHOSEN if posted.has_option else 0
        # The previous release shows what it knows.
        wanted = (posted.id, posted.seed, True, chosen if api == "next" else None)
        self._expect(told == wanted, f"get from {api}: {told}, expected {wanted}")

    def _expect_code(self, response: httpx2.Response, code: str, what: str) -> None:
        told = response.json().get("code")
        self._expect(told == code, f"{what}: {response.status_code} {told}, expected {code}")

    def _expect(self, is_right: bool, otherwise: str) -> None:
        if not is_right:
            with self._lock:
                self.misread.append(otherwise)

    def _other(self, api: str) -> str:
        return "next" if api == "previous" else "previous"
