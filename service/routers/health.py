"""The probes: `/healthz` for the process, `/readyz` for all that a job needs, `/metrics`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis import RedisError

from service.dependencies import AdminDep, MetricsDep, ResourcesDep, WatchDep
from service.problems import ProblemError, problem_responses
from service.schemas.examples import METRICS
from service.schemas.health import Health, Readiness
from worker.contract.artifacts import ArtifactStore
from worker.contract.durability import unsafe_settings
from worker.contract.errors import ErrorCode
from worker.contract.logs import get_logger

router = APIRouter(tags=["health"])

WORKER_SILENCE_S: Final = 30.0
_log = get_logger(__name__)


@router.get("/healthz", summary="The process runs")
async def healthz() -> Health:
    """Asks nobody: a restart of this process would not help what else may be broken."""
    return Health(version=version("talkface"))


@router.get(
    "/readyz",
    summary="Jobs are accepted, kept, and worked on",
    responses=problem_responses("not_ready", only_these=True),
)
def readyz(resources: ResourcesDep) -> Readiness:
    """Redis answers and keeps what it is told, the storage can be written, a worker is alive."""
    missing: list[str] = []
    unsafe: list[str] | None = None
    live_workers = live_inspectors = 0
    has_redis = True
    try:
        live_workers = resources.ledger.count_live_workers(within_s=WORKER_SILENCE_S)
        live_inspectors = resources.ledger.count_live_inspectors(within_s=WORKER_SILENCE_S)
        unsafe = unsafe_settings(resources.redis)
    except RedisError:
        has_redis = False
        missing.append("Redis cannot be reached")
    if unsafe and resources.settings.require_durable_redis:
        missing.append(f"Redis may forget a job: {'; '.join(unsafe)}")
    if not (has_storage := _is_writable(resources.artifacts)):
        missing.append("the storage cannot be written")
    if has_redis and not live_workers:
        missing.append("no worker is alive")
    told = Readiness(
        redis=has_redis,
        durable=None if unsafe is None else not unsafe,
        storage=has_storage,
        live_workers=live_workers,
        live_inspectors=live_inspectors,
    )
    if missing:
        raise ProblemError(
            ErrorCode.NOT_READY,
            f"Not ready: {', '.join(missing)}.",
            params=told.model_dump(exclude={"status"}),
        )
    return told


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"example": METRICS}},
        },
        **problem_responses(),
    },
)
def metrics(
    resources: ResourcesDep, metrics: MetricsDep, watch: WatchDep, _admin: AdminDep
) -> Response:
    """This process's requests, and what the ledger counted for all processes."""
    try:
        snapshot = resources.statistics.snapshot()
    except RedisError as error:
        _log.warning("statistics_unavailable", kind=type(error).__name__)
        snapshot = None
    return Response(
        metrics.exposition(snapshot, watchers=watch.num_waiting), media_type=CONTENT_TYPE_LATEST
    )


def _is_writable(artifacts: ArtifactStore) -> bool:
    try:
        artifacts.check_writable()
    except OSError:
        return False
    return True
