"""The probes: `/healthz` for the process, `/readyz` for all that a job needs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from fastapi import APIRouter
from redis import RedisError

from service.dependencies import ArtifactsDep, LedgerDep
from service.problems import ProblemError, problem_responses
from service.schemas.health import Health, Readiness
from worker.contract.errors import ErrorCode

router = APIRouter(tags=["health"])

WORKER_SILENCE_S: Final = 30.0


@router.get("/healthz", summary="The process runs")
async def healthz() -> Health:
    """Asks nobody: a restart of this process would not help what else may be broken."""
    return Health(version=version("talkface"))


@router.get(
    "/readyz",
    summary="Jobs are accepted and worked on",
    responses=problem_responses(503),
)
def readyz(ledger: LedgerDep, artifacts: ArtifactsDep) -> Readiness:
    """Redis answers, the storage can be written, at least one worker is alive."""
    live_workers, has_redis, has_storage = 0, True, True
    try:
        live_workers = ledger.count_live_workers(within_s=WORKER_SILENCE_S)
    except RedisError:
        has_redis = False
    try:
        artifacts.check_writable()
    except OSError:
        has_storage = False
    if has_redis and has_storage and live_workers:
        return Readiness(redis=True, storage=True, live_workers=live_workers)
    missing = [
        *(() if has_redis else ("Redis cannot be reached",)),
        *(() if has_storage else ("the storage cannot be written",)),
        *(() if live_workers or not has_redis else ("no worker is alive",)),
    ]
    raise ProblemError(
        ErrorCode.NOT_READY,
        f"Not ready: {', '.join(missing)}.",
        params={"redis": has_redis, "storage": has_storage, "live_workers": live_workers},
    )
