"""What an operator sees: everyone's jobs, lists that filter, log lines with key and client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.keys import KeyStore, Scope
from tests.integration.conftest import MakeClient, new_record
from worker.contract.ledger import Ledger


@pytest.fixture
def closed(make_client: MakeClient) -> TestClient:
    return make_client(require_keys=True)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def accept(ledger: Ledger, principal: str, *, age_s: float = 0.0, ends: bool = False) -> str:
    record = new_record().model_copy(
        update={
            "id": uuid4().hex,
            "principal": principal,
            "created_at": datetime.now(UTC) - timedelta(seconds=age_s),
        }
    )
    ledger.accept(record)
    if ends:
        assert ledger.end_open(record.id, None)
    return record.id


def ids(client: TestClient, query: str, headers: dict[str, str]) -> list[str]:
    answer = client.get(f"/v1/jobs{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


def test_an_admin_key_lists_the_jobs_of_everyone(
    closed: TestClient, keys: KeyStore, ledger: Ledger
) -> None:
    _, admin = keys.create("operator", scopes=[Scope.ADMIN])
    shop, shop_text = keys.create("shop")
    theirs = accept(ledger, shop.id, age_s=30)
    other = accept(ledger, "another", age_s=20)
    newest = accept(ledger, shop.id, age_s=10)

    assert ids(closed, "", bearer(admin)) == [newest, other, theirs]
    assert ids(closed, "", bearer(shop_text)) == [newest, theirs]
    pages = closed.get("/v1/jobs?limit=2", headers=bearer(admin)).json()
    assert ids(closed, f"?limit=2&cursor={pages['next_cursor']}", bearer(admin)) == [theirs]


@pytest.mark.parametrize("scope", [Scope.ADMIN, Scope.READ])
def test_lists_filter_by_state_and_time(
    closed: TestClient, keys: KeyStore, ledger: Ledger, scope: Scope
) -> None:
    key, text = keys.create("caller", scopes=[scope])
    old = accept(ledger, key.id, age_s=7200, ends=True)
    cancelled = accept(ledger, key.id, age_s=60, ends=True)
    waiting = accept(ledger, key.id)
    hour = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def found(query: str) -> list[str]:
        return ids(closed, query, bearer(text))

    assert found("?state=queued") == [waiting]
    assert found("?state=cancelled") == [cancelled, old]
    assert found("?state=cancelled&state=queued&limit=100") == [waiting, cancelled, old]
    assert found(f"?created_after={hour}") == [waiting, cancelled]
    assert found(f"?created_before={hour}") == [old]
    first = closed.get("/v1/jobs?state=cancelled&limit=1", headers=bearer(text)).json()
    assert [job["id"] for job in first["data"]] == [cancelled]
    assert found(f"?state=cancelled&limit=1&cursor={first['next_cursor']}") == [old]


@pytest.mark.parametrize(
    ("query", "field"),
    [("?status=failed", "status"), ("?state=done", "state"), ("?limits=1", "limits")],
)
def test_what_a_list_does_not_know_is_refused(
    make_client: MakeClient, query: str, field: str
) -> None:
    answer = make_client().get(f"/v1/jobs{query}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options")
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_a_request_is_logged_with_its_key_and_client(closed: TestClient, keys: KeyStore) -> None:
    key, text = keys.create("shop")

    with capture_logs() as lines:
        closed.get("/v1/jobs", headers=bearer(text))
        closed.get("/healthz")

    (line,) = [line for line in lines if line["event"] == "request" and line["path"] == "/v1/jobs"]
    assert (line["key"], line["client"], line["status"]) == (key.id, "testclient", 200)
    (probe,) = [line for line in lines if line.get("path") == "/healthz"]
    assert probe["log_level"] == "debug"
    assert text not in repr(lines)
