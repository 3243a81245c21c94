"""The worker image's health check: exit 0 when a worker of this container is registered.

A worker registers when its model is warm, and RQ keeps the time of its last sign of life beside it.
"""

import os
import socket
import sys

from redis import Redis
from rq import Worker


def main() -> int:
    """Look for this host among the registered workers."""
    connection = Redis.from_url(os.environ["TALKFACE_REDIS_URL"], socket_timeout=5)
    hosts = {worker.hostname for worker in Worker.all(connection=connection)}
    return 0 if socket.gethostname() in hosts else 1


if __name__ == "__main__":
    sys.exit(main())
