"""uvicorn, told what to bear and how to end; the one place that maps our settings to its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from multiprocessing.process import BaseProcess

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.connections import ConnectionLimits, ConnectionTable
from service.descriptors import raise_descriptor_limit
from service.exposure import UnsafeExposureError, check_exposure
from service.http_protocol import LimitedHttpProtocol
from service.main import create_app
from service.settings import ServiceSettings
from worker.contract.environment import unknown_variables
from worker.contract.logs import configure_logging, get_logger
from worker.contract.start import StartError, check_data_dir, check_sandbox, read_settings, refuse

# Open downloads may go on for so long after SIGTERM, in seconds.
GRACE_S = 5


class ApiConfig(uvicorn.Config):
    """How uvicorn serves the application.

    It can be sent to another process: the application is made where it is served.

    Args:
        settings: The deployment's settings.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        super().__init__(
            self._make_app,
            factory=True,
            host=settings.host,
            port=settings.port,
            http=LimitedHttpProtocol,
            # There are none, and a connection that became one would leave our limits.
            ws="none",
            # Our own lines: JSON, with the request id.
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            root_path=settings.root_path,
            workers=settings.processes,
            # Both always said: uvicorn's default believes what comes from loopback.
            proxy_headers=bool(settings.forwarded_allow_ips),
            forwarded_allow_ips=list(settings.forwarded_allow_ips),
        )

    def configure_logging(self) -> None:
        """Called by uvicorn, in each process that it starts once more."""
        super().configure_logging()
        if multiprocessing.parent_process() is not None:
            configure_logging("service", self.settings.log_level)

    def load(self) -> None:
        """Make the application; called by uvicorn in the process that serves."""
        super().load()
        if (parent := multiprocessing.parent_process()) is not None:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    def _make_app(self) -> FastAPI:
        app = create_app(self.settings)
        # A stream of events lasts as long as its job, and would be waited for when the server stops.
        let_go = app.state.resources.watch.close
        self.connections = ConnectionTable(ConnectionLimits.of(self.settings), let_go)
        return app


class ApiServer(uvicorn.Server):
    """Serves the application in this process until SIGTERM or SIGINT.

    Args:
        settings: The deployment's settings.

    Raises:
        UnsafeExposureError: The settings would open the service to the network without keys.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        check_exposure(settings)
        super().__init__(ApiConfig(settings))


def run_api(descriptor: int | None = None) -> None:
    """The whole life of an API process: settings, logs, serve; ends the process if it cannot.

    Args:
        descriptor: A socket that is bound already; None: bind the one that the settings name.
    """
    try:
        settings = read_settings(ServiceSettings)
        configure_logging("service", settings.log_level)
        log = get_logger("service")
        for name in unknown_variables(os.environ):
            log.warning("unknown_variable", name=name)
        check_exposure(settings)
        check_data_dir(settings.data_dir)
        check_sandbox(settings.sandbox, settings.decoder_socket)
    except StartError as error:
        refuse(error)
    except UnsafeExposureError as error:
        refuse(StartError(f"refused: {error}"))
    log.info("descriptor_limit", descriptors=raise_descriptor_limit())
    listener = None if descriptor is None else socket.socket(fileno=descriptor)
    if settings.processes == 1:
        ApiServer(settings).run(sockets=None if listener is None else [listener])
    else:
        _run_processes(settings, listener)


def _run_processes(settings: ServiceSettings, listener: socket.socket | None) -> None:
    """Serve one socket by several processes; what dies is started again."""
    config = ApiConfig(settings)
    supervisor = Multiprocess(config, [listener or config.bind_socket()])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def _end_with(parent: BaseProcess) -> None:
    """End this process as SIGTERM would when its parent is gone, killed perhaps."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
