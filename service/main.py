"""The application: middleware, error handlers, routes, and what lives as long as the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from service.audit import AuditLog
from service.dependencies import Resources
from service.exposure import check_exposure
from service.head_requests import HeadMiddleware
from service.metrics import Metrics
from service.metrics_port import MetricsPort
from service.middleware import RequestMiddleware
from service.problems import install_problem_handlers
from service.provenance.policy import RefusedMedia
from service.quotas import Quotas
from service.receiving_bytes import ReceivingBytes
from service.routers import (
    events,
    health,
    jobs,
    kept,
    pages,
    stream,
    talking_face,
    verify,
    webhooks,
)
from service.security import Guard
from service.settings import ServiceSettings
from service.watch import JobWatch
from service.webhook_targets import AllowedTargets
from worker.contract.artifact_settings import open_store
from worker.contract.artifacts import StorageAwayError
from worker.contract.asset_registry import AssetRegistry
from worker.contract.intake.confinement import confinement
from worker.contract.ledger import Ledger
from worker.contract.live_films import LiveFilms
from worker.contract.logs import get_logger
from worker.contract.outbox import Outbox
from worker.contract.queues import connect
from worker.contract.signing import SignerClient, socket_path
from worker.contract.statistics import StatisticsReader

_DAY_S = 86_400.0
_log = get_logger(__name__)


def create_app(settings: ServiceSettings | None = None) -> FastAPI:
    """Make the application; nothing is connected or written before it starts.

    Args:
        settings: The deployment's settings, by default from the environment.

    Raises:
        UnsafeExposureError: The settings would open the service to the network without keys.
    """
    settings = settings or ServiceSettings()
    check_exposure(settings)
    app = FastAPI(
        title="talkface",
        summary="A portrait or a video, and a voice, become a talking-face video.",
        version=version("talkface"),
        lifespan=_lifespan,
        # The framework's own pages load their scripts from elsewhere; `service.routers.pages` has ours.
        docs_url=None,
        redoc_url=None,
        # Generated clients name their functions by it.
        generate_unique_id_function=lambda route: route.name,
    )
    # Also in a process that was started by another API process, which has looked at the machine.
    confinement.mode, confinement.socket = settings.sandbox, settings.decoder_socket
    redis = connect(settings.redis_url)
    app.state.resources = Resources(
        settings=settings,
        ledger=Ledger(redis),
        artifacts=open_store(settings, min_free_bytes=settings.min_free_bytes),
        accept_limiter=CapacityLimiter(settings.parallel_decodes),
        receiving=ReceivingBytes(settings.max_receiving_bytes),
        guard=Guard(settings, redis),
        quotas=Quotas(redis, longest_upload_s=settings.body_timeout_s),
        redis=redis,
        statistics=StatisticsReader(redis),
        watch=JobWatch(
            settings.redis_url,
            max_waiting=settings.max_watchers,
            max_waiting_per_caller=settings.max_watchers_per_caller,
        ),
        metrics=Metrics(),
        outbox=Outbox(redis),
        webhook_targets=AllowedTargets.of(settings.webhook_allow),
        audit=AuditLog(settings.data_dir),
        refused=RefusedMedia(settings.refused_media),
        signer=SignerClient(socket_path(settings.data_dir, settings.signer_socket)),
        assets=AssetRegistry(redis),
        films=LiveFilms(redis),
    )
    # The last that is added is the outermost.
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=[
                "Authorization",
                "Idempotency-Key",
                "Last-Event-ID",
                "Prefer",
                "X-Request-ID",
            ],
            expose_headers=["Content-Range", "ETag", "Location", "Retry-After", "X-Request-ID"],
            max_age=600,
        )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestMiddleware, metrics=app.state.resources.metrics)
    routers = (
        *(talking_face.router, kept.router, jobs.router, stream.router, events.router),
        webhooks.router,
        verify.router,
        health.router,
        pages.router,
    )
    install_problem_handlers(app, [route for router in routers for route in router.routes])
    for router in routers:
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    resources: Resources = app.state.resources
    await run_in_threadpool(resources.guard.prepare)
    removed = 0
    try:
        removed = await run_in_threadpool(resources.artifacts.sweep, older_than_s=_DAY_S)
    except StorageAwayError as error:
        # It may come; until then uploads are refused and /readyz says why.
        _log.warning("storage_unavailable", reason=str(error))
    _log.info("service_started", swept=removed)
    metrics_port = _open_metrics_port(resources)
    yield
    if metrics_port is not None:
        await run_in_threadpool(metrics_port.close)
    await resources.watch.aclose()
    await run_in_threadpool(resources.redis.close)


def _open_metrics_port(resources: Resources) -> MetricsPort | None:
    settings = resources.settings
    if settings.metrics_port is None:
        return None
    return MetricsPort(
        settings.metrics_host,
        settings.metrics_port,
        settings.processes,
        resources.metrics,
        resources.statistics,
        resources.watch,
    )
