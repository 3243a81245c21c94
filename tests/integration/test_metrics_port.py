"""Prometheus' figures on a port of their own, and what the one variable of compose opens and closes."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.keys import KeyStore, Scope
from tests.integration.conftest import MakeClient


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def scrape(port: int) -> dict[str, float]:
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_have_a_port_of_their_own_that_asks_for_no_key(make_client: MakeClient) -> None:
    port = free_port()
    client = make_client(require_keys=True, metrics_port=port)

    assert client.get("/metrics").status_code == 401
    figures = scrape(port)
    assert figures["tf_store_up"] == 1
    assert "tf_http_requests_total" in figures and "tf_open_jobs" in figures


@pytest.mark.parametrize("is_closed", [False, True])
def test_one_variable_opens_and_closes_what_compose_starts(
    make_client: MakeClient, keys: KeyStore, is_closed: bool
) -> None:
    client = make_client(
        host="0.0.0.0", loopback_published=True, allow_anonymous=True, require_keys=is_closed
    )

    statuses = {path: client.get(path).status_code for path in ("/metrics", "/v1/jobs")}

    assert statuses == dict.fromkeys(statuses, 401 if is_closed else 200)
    _, text = keys.create("operator", scopes=frozenset({Scope.ADMIN}))
    headers = {"Authorization": f"Bearer {text}"}
    assert client.get("/v1/jobs", headers=headers).status_code == 200


def test_a_published_container_answers_to_names_of_this_machine_only(
    make_client: MakeClient,
) -> None:
    client = make_client(host="0.0.0.0", loopback_published=True)

    assert client.get("/v1/jobs", headers={"Host": "localhost:8000"}).status_code == 200
    assert client.get("/v1/jobs", headers={"Host": "rebound.example"}).status_code == 403


def test_the_secret_moves_to_its_own_volume(make_client: MakeClient, data_dir: Path) -> None:
    (data_dir / "secrets").mkdir(parents=True)
    old, new = data_dir / "secrets" / "install.key", data_dir.parent / "own" / "install.key"
    old.write_bytes(b"k" * 32)
    old.chmod(0o600)

    make_client(require_keys=True, secret_file=new)

    assert new.read_bytes() == b"k" * 32 and not old.exists()
