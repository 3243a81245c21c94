"""What a client is told when a render fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from starlette.testclient import TestClient

from model.errors import NoFaceError, SamplingError
from tests.integration.conftest import RedisServer
from worker.contract.artifact_folder import FolderStore
from worker.contract.ledger import Ledger
from worker.contract.quarantine import Quarantine
from worker.contract.results import RendererInfo
from worker.gpu_worker import GpuWorker
from worker.jobs import render_talking_face
from worker.progress import Heartbeat, ProgressSink, Stop
from worker.render_request import Renderer, RenderRequest, RenderResult
from worker.test_card import TestCardRenderer
from worker.worker_context import WorkerContext, install

PostJob = Callable[..., str]


class Stumbling:
    """The test card, after it has raised each of `errors` once."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self._card = TestCardRenderer()
        self.info: RendererInfo = self._card.info

    def warm_up(self) -> None:
        pass

    def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
        if self._errors:
            raise self._errors.pop(0)
        return self._card.render(request, progress)


@contextmanager
def working(
    server: RedisServer, data_dir: Path, renderer: Renderer, broken: list[str] | None = None
) -> Iterator[GpuWorker]:
    broken = [] if broken is None else broken
    with (
        server.client() as for_rq,
        server.client() as for_us,
        server.client() as for_beats,
        Heartbeat(Ledger(for_beats), "tester", 30) as heartbeat,
    ):
        stop = Stop()
        ledger, store = Ledger(for_us), FolderStore(data_dir)
        aside = Quarantine(for_rq)
        install(
            WorkerContext(
                "tester", ledger, aside, store, renderer, heartbeat, stop, 30, None, broken
            )
        )
        yield GpuWorker(for_rq, "tester", stop)


def run(server: RedisServer, data_dir: Path, renderer: Renderer) -> None:
    """Work until the queue is empty."""
    with working(server, data_dir, renderer) as worker:
        worker.work(burst=True)


def test_a_portrait_without_a_face_is_told_as_a_problem(
    redis_server: RedisServer, redis: Redis, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(0.2)

    run(redis_server, data_dir, Stumbling(NoFaceError("No face was found in the picture.")))

    response = client.get(f"/v1/jobs/{job_id}", headers={"Accept": "video/mp4"})
    job = response.json()
    assert response.status_code == 200
    assert (job["state"], job["attempt"], job["result"]) == ("failed", 1, None)
    assert job["error"]["code"] == "no_face_found"
    assert job["error"]["status"] == 422
    assert job["error"]["type"] == "urn:talkface:problem:no_face_found"
    assert job["error"]["detail"] == "No face was found in the picture."
    assert job["error"]["request_id"]
    assert "retry-after" not in response.headers
    content = client.get(f"/v1/jobs/{job_id}/content")
    assert (content.status_code, content.json()["params"]) == (409, {"state": "failed"})
    assert redis.exists("tf:{j}:open") == 0


def test_an_error_of_the_model_gets_one_more_try(
    redis_server: RedisServer, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(0.2)

    run(redis_server, data_dir, Stumbling(SamplingError("nan")))

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("succeeded", 2)


def test_an_error_of_the_model_that_stays_is_told_without_its_insides(
    redis_server: RedisServer, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(0.2)

    run(redis_server, data_dir, Stumbling(*(RuntimeError("/srv/secret.py") for _ in range(3))))

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("failed", 2)
    assert (job["error"]["code"], job["error"]["status"]) == ("model_error", 500)
    assert "secret" not in str(job)


def test_a_delivery_that_comes_twice_renders_once(
    redis_server: RedisServer, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(0.2)
    with working(redis_server, data_dir, TestCardRenderer()):
        render_talking_face(job_id, 1)
        first = client.get(f"/v1/jobs/{job_id}").json()
        render_talking_face(job_id, 1)

    assert client.get(f"/v1/jobs/{job_id}").json() == first
    assert len(list((data_dir / "artifacts" / "results" / job_id).glob("*.mp4"))) == 1


def test_a_render_whose_job_went_to_another_worker_is_dropped(
    redis_server: RedisServer, redis: Redis, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(1.0)

    class Overtaken(Stumbling):
        """Loses its lease, and its job, while it draws."""

        def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
            redis.delete(f"tf:{{j}}:lease:{job_id}")
            successor = Ledger(redis).claim(job_id, 1, "successor", worker="other", lease_s=30)
            assert successor is not None
            return self._card.render(request, progress)

    run(redis_server, data_dir, Overtaken())

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["result"]) == ("running", None)
    assert redis.get(f"tf:{{j}}:lease:{job_id}") == b"successor"


@pytest.mark.parametrize("name", ["input.png", "speech.flac"])
def test_inputs_that_are_gone_end_the_job(
    redis_server: RedisServer, client: TestClient, post: PostJob, data_dir: Path, name: str
) -> None:
    job_id = post(0.2)
    (data_dir / "artifacts" / "inputs" / job_id / name).unlink()

    run(redis_server, data_dir, TestCardRenderer())

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert "send them again" in job["error"]["detail"]


def test_a_broken_device_ends_the_process_and_not_the_job(
    redis_server: RedisServer, redis: Redis, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    first, second = post(0.2), post(0.2)
    broken: list[str] = []
    error = RuntimeError("CUDA error: an illegal memory access was encountered")

    with working(redis_server, data_dir, Stumbling(error), broken) as worker:
        worker.work()  # would go on for ever

    assert broken == ["RuntimeError"]
    jobs = [client.get(f"/v1/jobs/{job_id}").json() for job_id in (first, second)]
    assert [(job["state"], job["attempt"]) for job in jobs] == [("queued", 2), ("queued", 1)]
    run(redis_server, data_dir, TestCardRenderer())
    assert client.get(f"/v1/jobs/{first}").json()["state"] == "succeeded"


def test_a_video_of_a_job_that_was_deleted_meanwhile_is_withdrawn(
    redis_server: RedisServer, redis: Redis, client: TestClient, post: PostJob, data_dir: Path
) -> None:
    job_id = post(0.2)

    class Unwanted(Stumbling):
        """Draws to the end; then somebody deletes the job."""

        def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
            result = self._card.render(request, progress)
            Ledger(redis).delete(job_id)
            return result

    run(redis_server, data_dir, Unwanted())

    assert Ledger(redis).get(job_id) is None
    assert list((data_dir / "artifacts" / "results" / job_id).iterdir()) == []


def test_a_job_waits_for_room_on_a_full_volume(
    redis_server: RedisServer,
    client: TestClient,
    post: PostJob,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.jobs.FULL_PAUSE_S", 0.01)
    job_id = post(0.2)
    full = OSError(28, "No space left on device")

    run(redis_server, data_dir, Stumbling(*[full] * 5))

    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("succeeded", 6)
    assert len(list((data_dir / "artifacts" / "results" / job_id).glob("*.mp4"))) == 1
