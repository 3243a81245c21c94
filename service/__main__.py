"""`python -m service`: settings, logs, serve."""

from __future__ import annotations

import os
import sys

from service.main import create_app
from service.security import UnsafeExposureError
from service.server import ApiServer
from service.settings import ServiceSettings
from worker.contract.environment import unknown_variables
from worker.contract.logs import configure_logging, get_logger


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = ServiceSettings()
    configure_logging("service", settings.log_level)
    for name in unknown_variables(os.environ):
        get_logger("service").warning("unknown_variable", name=name)
    try:
        app = create_app(settings)
    except UnsafeExposureError as error:
        sys.exit(f"talkface: refused: {error}")
    ApiServer(app, host=settings.host, port=settings.port).run()


if __name__ == "__main__":
    main()
