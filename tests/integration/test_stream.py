"""`GET /v1/jobs/<id>/stream`: a video is watched while a worker draws it."""

from __future__ import annotations

import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from model.media.ffmpeg import ffmpeg_path
from model.media.fragments import read_pieces
from service.reconciler import Reconciler, ReconcilerSettings
from talkface_client import Client
from tests.integration.conftest import RedisServer, StartWorker, eventually
from tests.integration.live_server import LiveServer, live_server
from tests.uploads import picture, tone
from worker.contract.artifact_folder import FolderStore
from worker.contract.live_films import is_piece

Post = Callable[..., str]
FRAMES = 50


@pytest.fixture
def server(redis_server: RedisServer, data_dir: Path) -> Iterator[LiveServer]:
    with live_server(redis_server.url, data_dir) as server:
        yield server


@pytest.fixture
def http(server: LiveServer) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def post(http: httpx2.Client) -> Post:
    def post_job(seconds: float = FRAMES / 25) -> str:
        files = {"audio": ("a.wav", tone(seconds)), "image": ("i.jpg", picture())}
        return str(http.post("/v1/talking-face", files=files).json()["id"])

    return post_job


@pytest.fixture
def reconciler(redis_server: RedisServer, data_dir: Path) -> Reconciler:
    settings = ReconcilerSettings(redis_url=redis_server.url, data_dir=data_dir, lost_after_s=0.1)
    return Reconciler(settings)


class Viewer:
    """Somebody who watches from the beginning, in a thread."""

    def __init__(self, server: LiveServer, job_id: str) -> None:
        self.seen = b""
        self.status = 0
        self.error: Exception | None = None
        self._server, self._path = server, f"/v1/jobs/{job_id}/stream"
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def num_fragments(self) -> int:
        return self.seen.count(b"moof")

    def end(self) -> None:
        """Wait until there is nothing more to see."""
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _watch(self) -> None:
        try:
            with self._server.client() as client, client.stream("GET", self._path) as answer:
                self.status = answer.status_code
                for piece in answer.iter_bytes():
                    self.seen += piece
        except httpx2.TransportError as error:
            self.error = error


def num_frames(content: bytes, folder: Path) -> int:
    """Frames of an MP4 that ffmpeg decodes without a word."""
    path = folder / "seen.mp4"
    path.write_bytes(content)
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framecrc", "-"]
    ended = subprocess.run(command, capture_output=True, check=True)
    assert ended.stderr == b""
    return sum(not line.startswith(b"#") for line in ended.stdout.splitlines())


def job_of(http: httpx2.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = http.get(f"/v1/jobs/{job_id}").json()
    return job


def is_in(http: httpx2.Client, job_id: str, state: str) -> bool:
    return bool(job_of(http, job_id)["state"] == state)


def test_a_video_is_watched_from_its_first_fragment_and_is_a_file_afterwards(
    server: LiveServer, http: httpx2.Client, post: Post, start_worker: StartWorker, tmp_path: Path
) -> None:
    job_id = post()
    viewer = Viewer(server, job_id)  # the job waits, and so does the viewer
    start_worker(test_card_frame_ms=20)
    eventually(lambda: viewer.num_fragments() >= 2, "the first fragments come")

    assert is_in(http, job_id, "running")
    early = b"".join(list(read_pieces(io.BytesIO(viewer.seen)))[:2])
    assert num_frames(early, tmp_path) == 2
    assert job_of(http, job_id)["links"]["stream"] == f"/v1/jobs/{job_id}/stream"

    viewer.end()
    assert (viewer.status, viewer.error) == (200, None)
    assert num_frames(viewer.seen, tmp_path) == FRAMES
    eventually(lambda: is_in(http, job_id, "succeeded"), "the job succeeds")
    whole, part = (
        http.get(f"/v1/jobs/{job_id}/stream", headers=headers)
        for headers in ({}, {"Range": "bytes=0-99"})
    )
    assert whole.content == http.get(f"/v1/jobs/{job_id}/content").content
    assert (part.status_code, part.content) == (206, whole.content[:100])
    with Client(server.url) as client:
        assert b"".join(client.stream(job_id)) == whole.content
    assert b"jumb" in whole.content and b"jumb" not in viewer.seen, "only the file is signed"


def test_after_a_killed_worker_the_stream_goes_on_at_the_next_fragment(
    server: LiveServer,
    http: httpx2.Client,
    post: Post,
    start_worker: StartWorker,
    reconciler: Reconciler,
    tmp_path: Path,
) -> None:
    job_id = post()
    first = start_worker(test_card_frame_ms=60, lease_s=1)
    viewer = Viewer(server, job_id)
    eventually(lambda: viewer.num_fragments() >= 2, "the first fragments come")
    first.kill()
    start_worker()

    def has_succeeded() -> bool:
        reconciler.round()
        return is_in(http, job_id, "succeeded")

    eventually(has_succeeded, "another worker does it")
    viewer.end()
    assert job_of(http, job_id)["attempt"] == 2
    assert viewer.error is None
    assert num_frames(viewer.seen, tmp_path) == FRAMES


@pytest.mark.parametrize("end", ["cancel", pytest.param("erase", marks=pytest.mark.long)])
def test_a_stream_without_an_end_breaks_off_and_nothing_of_it_stays(
    server: LiveServer,
    http: httpx2.Client,
    post: Post,
    start_worker: StartWorker,
    reconciler: Reconciler,
    data_dir: Path,
    end: str,
) -> None:
    store = FolderStore(data_dir)
    job_id = post(60.0)
    start_worker(test_card_frame_ms=20)
    viewer = Viewer(server, job_id)
    eventually(lambda: viewer.num_fragments() >= 1, "the first fragment comes")

    if end == "cancel":
        http.post(f"/v1/jobs/{job_id}/cancel")
        eventually(lambda: is_in(http, job_id, "cancelled"), "the job is cancelled")
    else:
        http.delete(f"/v1/jobs/{job_id}")

    viewer.end()
    assert isinstance(viewer.error, httpx2.RemoteProtocolError)

    def is_clean() -> bool:
        reconciler.round()
        return not any(is_piece(name) for name in store.names(f"results/{job_id}"))

    eventually(is_clean, "its pieces are erased")
    again = http.get(f"/v1/jobs/{job_id}/stream")
    assert again.json()["code"] == ("result_not_available" if end == "cancel" else "job_not_found")


def test_who_asks_too_early_waits_as_long_as_they_want(http: httpx2.Client, post: Post) -> None:
    job_id = post()

    answer = http.get(f"/v1/jobs/{job_id}/stream", params={"wait": "0"})

    assert (answer.status_code, answer.json()["code"]) == (409, "result_not_available")
    assert answer.headers["retry-after"] == "1"
    assert http.get("/v1/jobs/" + "0" * 32 + "/stream").status_code == 404


@pytest.mark.long
def test_streams_can_be_turned_off_and_the_file_is_the_same(
    redis_server: RedisServer, data_dir: Path, start_worker: StartWorker
) -> None:
    contents = []
    for word in ("on", "off"):
        worker = start_worker(stream=word, content_credentials="false")
        with (
            live_server(redis_server.url, data_dir, stream=word == "on") as server,
            server.client() as http,
        ):
            files = {"audio": ("a.wav", tone(0.5)), "image": ("i.jpg", picture())}
            job = http.post("/v1/talking-face", files=files).json()
            assert bool(job["links"]["stream"]) is (word == "on")
            if word == "off":
                early = http.get(f"/v1/jobs/{job['id']}/stream", params={"wait": "0"})
                assert early.status_code in (200, 409)
            done = http.get(f"/v1/jobs/{job['id']}", params={"wait": "60"}).json()
            assert done["state"] == "succeeded"
            contents.append(http.get(f"/v1/jobs/{job['id']}/stream").content)
            pieces = [
                name
                for name in FolderStore(data_dir).names(f"results/{job['id']}")
                if is_piece(name)
            ]
            assert bool(pieces) is (word == "on")
        worker.terminate()
    assert contents[0] == contents[1]


def test_places_of_a_caller_are_limited(
    redis_server: RedisServer, data_dir: Path, start_worker: StartWorker
) -> None:
    with (
        live_server(redis_server.url, data_dir, max_watchers=0) as server,
        server.client() as http,
    ):
        files = {"audio": ("a.wav", tone(0.5)), "image": ("i.jpg", picture())}
        job_id = http.post("/v1/talking-face", files=files).json()["id"]
        answer = http.get(f"/v1/jobs/{job_id}/stream")
    assert (answer.status_code, answer.json()["code"]) == (429, "concurrency_limited")
