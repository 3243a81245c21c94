"""What routes ask for by type; all of it is made once in `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request

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
    """

    settings: ServiceSettings
    ledger: Ledger
    artifacts: ArtifactStore
    accept_limiter: CapacityLimiter


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


ResourcesDep = Annotated[Resources, Depends(_resources)]
SettingsDep = Annotated[ServiceSettings, Depends(_settings)]
LedgerDep = Annotated[Ledger, Depends(_ledger)]
ArtifactsDep = Annotated[ArtifactStore, Depends(_artifacts)]
BaseUrlDep = Annotated[str, Depends(_base_url)]
RequestIdDep = Annotated[str, Depends(_request_id)]
