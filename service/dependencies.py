"""What routes ask for by type; all of it is made once in `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.keys import Scope
from service.quotas import Quotas
from service.security import Guard, Principal
from service.settings import ServiceSettings
from worker.contract.artifacts import ArtifactStore
from worker.contract.ledger import Ledger


@dataclass(frozen=True)
class Resources:
    """What lives as long as the process.

    Args:
        settings: The deployment's settings.
        ledger: The truth about jobs; needs no Redis until it is asked.
        artifacts: Uploads and results.
        accept_limiter: Bounds the uploads that are decoded at the same time. Those that wait hold
            no thread, so that status reads never wait behind them.
        guard: Says who asks and what they may do.
        quotas: How many jobs a caller may have.
    """

    settings: ServiceSettings
    ledger: Ledger
    artifacts: ArtifactStore
    accept_limiter: CapacityLimiter
    guard: Guard
    quotas: Quotas


def _resources(request: Request) -> Resources:
    return cast(Resources, request.app.state.resources)


def _settings(request: Request) -> ServiceSettings:
    return _resources(request).settings


def _ledger(request: Request) -> Ledger:
    return _resources(request).ledger


def _artifacts(request: Request) -> ArtifactStore:
    return _resources(request).artifacts


def _base_url(request: Request) -> str:
    public_url = _settings(request).public_url
    return (public_url or str(request.scope.get("root_path", ""))).rstrip("/")


def _request_id(request: Request) -> str:
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


ResourcesDep = Annotated[Resources, Depends(_resources)]
SettingsDep = Annotated[ServiceSettings, Depends(_settings)]
LedgerDep = Annotated[Ledger, Depends(_ledger)]
ArtifactsDep = Annotated[ArtifactStore, Depends(_artifacts)]
BaseUrlDep = Annotated[str, Depends(_base_url)]
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
