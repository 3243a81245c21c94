"""Several workers draw one long video: whole, once, and only what is lost is drawn again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from rq.utils import import_attribute
from starlette.testclient import TestClient

from model.media.video_reader import read_frames
from tests.integration.conftest import StartWorker, WorkerProcess, eventually
from worker.contract.presence import Presence, ProcessKind
from worker.contract.queues import HELP_FUNCTION
from worker.contract.segments import Segments

PostJob = Callable[..., str]
SPLIT = {"segment_s": 0.6, "test_card_frame_ms": 15, "lease_s": 2}


def job_of(client: TestClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def wait_for_success(client: TestClient, job_id: str) -> dict[str, Any]:
    eventually(lambda: job_of(client, job_id)["state"] not in ("queued", "running"), "an end")
    job = job_of(client, job_id)
    assert job["state"] == "succeeded", job
    return job


@pytest.fixture
def two_workers(redis: Redis, start_worker: StartWorker) -> list[WorkerProcess]:
    workers = [start_worker(**SPLIT) for _ in range(2)]
    presence = Presence(redis)
    eventually(lambda: presence.count(ProcessKind.WORKER) == 2, "both are counted")
    return workers


def frames_of(client: TestClient, job_id: str, path: Path) -> np.ndarray:
    path.write_bytes(client.get(f"/v1/jobs/{job_id}/content").content)
    return np.stack(list(read_frames(path)))


def drawn_by(workers: list[WorkerProcess]) -> list[int]:
    return [worker.log().count('"segment_drawn"') for worker in workers]


def test_both_draw_and_the_video_is_that_of_one(
    client: TestClient,
    post: PostJob,
    two_workers: list[WorkerProcess],
    tmp_path: Path,
    data_dir: Path,
    redis: Redis,
) -> None:
    divided = post(4.0, label="always")
    job = wait_for_success(client, divided)

    assert min(drawn_by(two_workers)) > 0
    # Segments of two batches of eight frames: 100 frames are seven.
    assert sum(drawn_by(two_workers)) == 7
    assert (job["frames"], job["attempt"]) == ({"done": 100, "total": 100}, 1)
    results = data_dir / "artifacts" / "results" / divided
    eventually(lambda: not list(results.glob("segment*")), "they are gone soon after the end")
    eventually(lambda: redis.keys("tf:{j}:segment*") == [], "they are forgotten")

    two_workers[0].terminate()
    presence = Presence(redis)
    eventually(lambda: presence.count(ProcessKind.WORKER) == 1, "one is left")
    whole = post(4.0, label="always")
    wait_for_success(client, whole)
    assert sum(drawn_by(two_workers)) == 7, "nobody was there to divide it with"
    found, expected = (frames_of(client, one, tmp_path / one) for one in (divided, whole))
    assert found.shape == (100, *expected.shape[1:])
    # The files differ in their signatures alone.
    assert np.array_equal(found, expected)


def test_a_short_video_is_never_divided(
    client: TestClient, post: PostJob, two_workers: list[WorkerProcess]
) -> None:
    wait_for_success(client, post(1.0))

    assert drawn_by(two_workers) == [0, 0]


def numbers_of(event: str, worker: WorkerProcess) -> list[int]:
    lines = [line for line in worker.log().splitlines() if f'"{event}"' in line]
    return [int(json.loads(line)["number"]) for line in lines]


def test_of_a_helper_that_is_killed_one_segment_is_drawn_again(
    client: TestClient, post: PostJob, redis: Redis, start_worker: StartWorker, tmp_path: Path
) -> None:
    # So slow that a kill hits the middle of a segment.
    workers = [start_worker(**{**SPLIT, "test_card_frame_ms": 60}) for _ in range(2)]
    presence = Presence(redis)
    eventually(lambda: presence.count(ProcessKind.WORKER) == 2, "both are counted")
    job_id = post(4.0)

    def helper() -> WorkerProcess | None:
        """The one that helps, while it draws."""
        found = [worker for worker in workers if '"helping"' in worker.log()]
        if found and len(numbers_of("segment_begun", found[0])) > len(
            numbers_of("segment_drawn", found[0])
        ):
            return found[0]
        return None

    killed: list[WorkerProcess] = []

    def kill() -> bool:
        if (one := helper()) is not None:
            one.kill()
            killed.append(one)
        return bool(killed)

    eventually(kill, "one helps and is killed")
    job = wait_for_success(client, job_id)

    assert job["attempt"] == 1
    assert len(frames_of(client, job_id, tmp_path / "video.mp4")) == 100
    begun = Counter(number for worker in workers for number in numbers_of("segment_begun", worker))
    assert set(begun) == set(range(7))
    lost = set(numbers_of("segment_begun", killed[0])) - set(numbers_of("segment_drawn", killed[0]))
    assert {number for number, times in begun.items() if times > 1} == lost
    assert len(lost) == 1 and begun.total() == 8


@pytest.mark.long
def test_of_an_owner_that_is_killed_the_drawn_segments_stay_drawn(
    client: TestClient,
    post: PostJob,
    redis: Redis,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    from service.reconciler import Reconciler, ReconcilerSettings

    helper = start_worker(**SPLIT)
    owner = start_worker(**SPLIT)
    presence = Presence(redis)
    eventually(lambda: presence.count(ProcessKind.WORKER) == 2, "both are counted")
    job_id = post(6.0)
    segments = Segments(redis, job_id, 2.0)
    eventually(lambda: len(segments.drawn()) >= 2, "some are drawn")
    first = next(w for w in (helper, owner) if '"job_split"' in w.log())
    first.kill()
    kept = segments.drawn()
    assert kept
    settings = ReconcilerSettings(
        redis_url=client.app.state.resources.settings.redis_url,  # type: ignore[attr-defined]
        data_dir=client.app.state.resources.settings.data_dir,  # type: ignore[attr-defined]
        lost_after_s=0.5,
    )
    reconciler = Reconciler(settings)

    def ended() -> bool:
        reconciler.round()
        return job_of(client, job_id)["state"] not in ("queued", "running")

    eventually(ended, "an end")
    job = wait_for_success(client, job_id)

    assert job["attempt"] == 2
    assert len(frames_of(client, job_id, tmp_path / "video.mp4")) == 150
    other = helper if first is owner else owner
    again = [line for line in other.log().splitlines() if '"segment_drawn"' in line]
    assert len(again) <= 10 - len(kept) + 2


def test_the_function_of_helpers_is_found_by_its_name() -> None:
    from worker.helping import help_with

    assert import_attribute(HELP_FUNCTION) is help_with
