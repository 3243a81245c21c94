"""Every code has a status, and everything that goes wrong is a problem document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.main import create_app
from service.problems import STATUS, make_problem
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = ServiceSettings(
        # Nothing listens here: what these tests ask for needs no Redis, or tells that it is away.
        redis_url=f"unix://{tmp_path}/absent.sock",
        data_dir=tmp_path / "data",
        max_audio_bytes=1000,
        max_image_bytes=1000,
        max_video_bytes=1000,
        min_free_bytes=0,
    )
    app = create_app(settings)

    def boom() -> None:
        raise ZeroDivisionError("secret of the house")

    app.add_api_route("/boom", boom)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_status_that_means_an_error(code: ErrorCode) -> None:
    problem = make_problem(code, "Because.", request_id=None)

    assert 400 <= STATUS[code] < 600
    assert problem.status == STATUS[code]
    assert problem.type == f"urn:talkface:problem:{code.value}"
    assert re.fullmatch(r"[A-Z][a-z ]+", problem.title)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("PUT", "/healthz", 405, "method_not_allowed"),
        ("POST", "/v1/talking-face", 503, "store_unavailable"),
        ("GET", "/boom", 500, "internal_error"),
        ("GET", "/v1/jobs/not-an-id", 404, "job_not_found"),
        ("GET", f"/v1/jobs/{'0' * 32}", 503, "store_unavailable"),
        ("GET", "/readyz", 503, "not_ready"),
    ],
)
def test_every_error_is_a_problem_document(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path, headers={"X-Request-ID": "my-id.1"})

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "my-id.1"
    problem = response.json()
    assert (problem["code"], problem["status"], problem["request_id"]) == (code, status, "my-id.1")
    assert problem["detail"].endswith(".")
    assert "secret" not in response.text
    if status == 503:
        assert response.headers["retry-after"].isdecimal()


def test_without_redis_the_service_starts_and_says_so(client: TestClient) -> None:
    alive = client.get("/healthz")
    ready = client.get("/readyz")

    assert alive.json()["status"] == "ok"
    assert ready.json()["params"] == {
        "redis": False,
        "durable": None,
        "storage": True,
        "live_workers": 0,
        "live_inspectors": 0,
        "live_validators": 0,
        "live_reconcilers": 0,
        "quarantined": 0,
        "signer": False,
    }


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "line\tbreak"])
def test_a_request_id_that_is_not_plain_is_replaced(client: TestClient, sent: str) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": sent})

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])
