"""`python -m service.reconciler_health`, for containers: exit 0 while their reconciler goes round.

A process that is there and keeps dying, or hangs, says nothing: this asks for its sign of life.
"""

import os
import socket
import sys

from worker.contract.presence import Presence, ProcessKind
from worker.contract.queues import connect


def main() -> int:
    """Look for this host among the reconcilers that were heard of lately."""
    presence = Presence(connect(os.environ["TALKFACE_REDIS_URL"]))
    return 0 if presence.has_host(ProcessKind.RECONCILER, socket.gethostname()) else 1


if __name__ == "__main__":
    sys.exit(main())
