"""The live service and its OpenAPI document agree, for requests that schemathesis invents."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import missing_required_header, positive_data_acceptance

from service.keys import KeyStore, Scope
from tests.integration.conftest import RedisServer
from tests.integration.live_server import LiveServer, live_server
from worker.contract.artifact_folder import FolderStore
from worker.contract.ledger import Ledger
from worker.contract.presence import ProcessKind

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, str]]:
    """A service that requires keys, one worker that is alive, and a key that may do everything."""
    with tempfile.TemporaryDirectory(prefix="tf-redis-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        data_dir = tmp_path_factory.mktemp("data")
        with redis.client() as client:
            keys = KeyStore(client, FolderStore(data_dir))
            _, key = keys.create("test", scopes=list(Scope))
            for kind in (ProcessKind.WORKER, ProcessKind.INSPECTOR, ProcessKind.RECONCILER):
                Ledger(client).presence.beat(kind, "process")
        with live_server(redis.url, data_dir, require_keys=True, max_concurrent_jobs=None) as live:
            yield live, key
        redis.stop()


schema = schemathesis.openapi.from_path(ROOT / "openapi.json")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_service_keeps_its_contract(case: Any, server: tuple[LiveServer, str]) -> None:
    live, key = server
    if case.query and case.query.get("wait"):
        # A wait of a minute is right, and too long for a test.
        case.query["wait"] = 0.01
    case.call_and_validate(
        base_url=live.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        # No schema says that a file is a picture, or that a cursor came from the page before; and
        # every request here has a key (tests/integration/test_owners.py asks without one).
        excluded_checks=[positive_data_acceptance, missing_required_header],
    )
