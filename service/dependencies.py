"""What routes ask for by type; all of it is made once in `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis import Redis

from service.audit import AuditLog
from service.job_views import JobViews
from service.keys import Scope
from service.metrics import Metrics
from service.provenance.policy import RefusedMedia
from service.quotas import Quotas
from service.receiving_bytes import ReceivingBytes
from service.schemas.job import Links
from service.security import Guard, Principal
from service.settings import ServiceSettings
from service.watch import JobWatch
from service.webhook_targets import AllowedTargets
from worker.contract.artifacts import ArtifactStore
from worker.contract.asset_registry import AssetRegistry
from worker.contract.ledger import Ledger
from worker.contract.live_films import LiveFilms
from worker.contract.outbox import Outbox
from worker.contract.signing import SignerClient
from worker.contract.statistics import StatisticsReader


@dataclass(frozen=True)
class Resources:
    """What lives as long as the process.

    Args:
        settings: The deployment's settings.
        ledger: The truth about jobs; needs no Redis until it is asked.
        artifacts: Uploads and results.
        accept_limiter: Bounds the uploads that are decoded at the same time. Those that wait hold
            no thread, so that status reads never wait behind them.
        receiving: How much all unfinished uploads hold.
        guard: Says who asks and what they may do.
        quotas: How many jobs a caller may have.
        redis: The ledger's Redis, for what is not about a job.
        statistics: What was counted about all jobs.
        watch: Wakes who waits for a job.
        metrics: What this process counts.
        outbox: Webhooks that are due.
        webhook_targets: Receivers of webhooks that need not be public.
        audit: Who made and erased what.
        refused: The operator's list of files that are refused.
        signer: Whom the workers ask; here it is asked for its certificates.
        assets: What callers keep here.
        films: Knows of videos that are watched while they are drawn.
    """

    settings: ServiceSettings
    ledger: Ledger
    artifacts: ArtifactStore
    accept_limiter: CapacityLimiter
    receiving: ReceivingBytes
    guard: Guard
    quotas: Quotas
    redis: Redis
    statistics: StatisticsReader
    watch: JobWatch
    metrics: Metrics
    outbox: Outbox
    webhook_targets: AllowedTargets
    audit: AuditLog
    refused: RefusedMedia
    signer: SignerClient
    assets: AssetRegistry
    films: LiveFilms


def _resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


# Coroutines, though nothing is awaited: the framework runs plain functions in a thread, each time.


async def _all(request: Request) -> Resources:
    return _resources(request)


async def _settings(request: Request) -> ServiceSettings:
    return _resources(request).settings


async def _ledger(request: Request) -> Ledger:
    return _resources(request).ledger


async def _artifacts(request: Request) -> ArtifactStore:
    return _resources(request).artifacts


async def _watch(request: Request) -> JobWatch:
    return _resources(request).watch


async def _metrics(request: Request) -> Metrics:
    return _resources(request).metrics


async def _audit(request: Request) -> AuditLog:
    return _resources(request).audit


async def _films(request: Request) -> LiveFilms:
    return _resources(request).films


async def _job_views(request: Request) -> JobViews:
    resources = _resources(request)
    base_url = resources.settings.public_url or str(request.scope.get("root_path", ""))
    settings = resources.settings
    links = Links(base_url.rstrip("/"), resources.guard.link_query, is_streamed=settings.stream)
    return JobViews(resources.ledger, links)


async def _request_id(request: Request) -> str:
    return str(request.state.request_id)


# For the OpenAPI document; the guard reads the header itself and answers with a problem.
_bearer = HTTPBearer(
    auto_error=False,
    description="An API key, `tf_<env>_<id>_<secret>`; only where the deployment requires keys.",
)
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


async def _reader(request: Request, _key: _Bearer) -> Principal:
    return await _resources(request).guard.admit(request, Scope.READ)


async def _lister(request: Request, _key: _Bearer) -> Principal:
    return await _resources(request).guard.admit_to_list(request)


async def _writer(request: Request, _key: _Bearer) -> Principal:
    return await _resources(request).guard.admit(request, Scope.WRITE)


async def _admin(request: Request, _key: _Bearer) -> Principal:
    return await _resources(request).guard.admit(request, Scope.ADMIN)


async def _content_reader(
    request: Request, job_id: Annotated[str, Path()], _key: _Bearer
) -> Principal:
    return await _resources(request).guard.admit_link(request, job_id, "content")


async def _events_reader(
    request: Request, job_id: Annotated[str, Path()], _key: _Bearer
) -> Principal:
    return await _resources(request).guard.admit_link(request, job_id, "events")


ResourcesDep = Annotated[Resources, Depends(_all)]
SettingsDep = Annotated[ServiceSettings, Depends(_settings)]
LedgerDep = Annotated[Ledger, Depends(_ledger)]
ArtifactsDep = Annotated[ArtifactStore, Depends(_artifacts)]
WatchDep = Annotated[JobWatch, Depends(_watch)]
AuditDep = Annotated[AuditLog, Depends(_audit)]
LiveFilmsDep = Annotated[LiveFilms, Depends(_films)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
JobViewsDep = Annotated[JobViews, Depends(_job_views)]
RequestIdDep = Annotated[str, Depends(_request_id)]
PrincipalDep = Annotated[Principal, Depends(_reader)]
"""A caller with the scope read."""
ListerDep = Annotated[Principal, Depends(_lister)]
"""A caller with the scope read and jobs of their own."""
WriterDep = Annotated[Principal, Depends(_writer)]
"""A caller with the scope write."""
AdminDep = Annotated[Principal, Depends(_admin)]
"""A caller with the scope admin; where no key is needed, everyone."""
ContentReaderDep = Annotated[Principal, Depends(_content_reader)]
"""A caller with the scope read, or with a signed link to the content of `job_id`."""
EventsReaderDep = Annotated[Principal, Depends(_events_reader)]
"""A caller with the scope read, or with a signed link to the events of `job_id`."""
