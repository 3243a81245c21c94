"""The probes: `/healthz` for the process, `/readyz` for all that a job needs, `/metrics`."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from redis import RedisError

from service.dependencies import AdminDep, MetricsDep, ResourcesDep, WatchDep
from service.metrics_port import read_snapshot
from service.problems import ProblemError, problem_responses
from service.schemas.examples import METRICS
from service.schemas.health import Health, Readiness
from worker.contract.artifacts import ArtifactStore
from worker.contract.durability import unsafe_settings
from worker.contract.errors import ErrorCode
from worker.contract.logs import get_logger
from worker.contract.presence import ProcessKind
from worker.contract.quarantine import Quarantine

_log = get_logger(__name__)
router = APIRouter(tags=["health"])


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
    """Redis answers and keeps what it is told, the storage can be written, a worker and a
    reconciler are alive, and where videos are signed, the signer answers.
    """
    missing: list[str] = []
    unsafe: list[str] | None = None
    live = dict.fromkeys(ProcessKind, 0)
    quarantined = 0
    has_redis = True
    try:
        live = {kind: resources.ledger.presence.count(kind) for kind in ProcessKind}
        quarantined = Quarantine(resources.redis).count()
        unsafe = unsafe_settings(resources.redis)
    except RedisError:
        has_redis = False
        missing.append("Redis cannot be reached")
    if unsafe and resources.settings.require_durable_redis:
        missing.append(f"Redis may forget a job: {'; '.join(unsafe)}")
    if not (has_storage := _is_writable(resources.artifacts)):
        missing.append("the storage cannot be written")
    if resources.settings.require_worker and has_redis and not live[ProcessKind.WORKER]:
        missing.append("no worker is alive")
    if has_redis and not live[ProcessKind.RECONCILER]:
        missing.append("no reconciler is alive, so jobs of workers that die are not recovered")
    signer: bool | None = None
    if resources.settings.content_credentials:
        fault = resources.signer.fault()
        signer = fault is None
        if fault is not None:
            missing.append(f"no signer answers ({fault}), so finished videos wait for one")
    told = Readiness(
        redis=has_redis,
        durable=None if unsafe is None else not unsafe,
        storage=has_storage,
        live_workers=live[ProcessKind.WORKER],
        live_inspectors=live[ProcessKind.INSPECTOR],
        live_validators=live[ProcessKind.VALIDATOR],
        live_reconcilers=live[ProcessKind.RECONCILER],
        quarantined=quarantined,
        signer=signer,
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
    told = metrics.exposition(read_snapshot(resources.statistics), watchers=watch.num_waiting)
    return Response(told, media_type=CONTENT_TYPE_LATEST)


def _is_writable(artifacts: ArtifactStore) -> bool:
    try:
        artifacts.check_writable()
    except OSError as error:
        _log.error("storage_not_writable", reason=str(error))
        return False
    return True
