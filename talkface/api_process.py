"""The API on a socket that `talkface up` holds open: `python -m talkface.api_process FD`.

The parent binds the port and hands the socket down, so a taken port is noticed before anything
starts, and while a dead API is being restarted callers wait instead of being refused.
"""

from __future__ import annotations

import os
import socket
import sys

from service.main import create_app
from service.security import UnsafeExposureError
from service.server import ApiServer
from service.settings import ServiceSettings
from worker.contract.environment import unknown_variables
from worker.contract.logs import configure_logging, get_logger


def main() -> None:
    """Serve until SIGTERM."""
    settings = ServiceSettings()
    configure_logging("service", settings.log_level)
    for name in unknown_variables(os.environ):
        get_logger("service").warning("unknown_variable", name=name)
    try:
        app = create_app(settings)
    except UnsafeExposureError as error:
        sys.exit(f"talkface: refused: {error}")
    ApiServer(app).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
