"""The reconciler as it is, but for the last step of a webhook: a line in a file instead of a POST.

python tests/chaos/reconciler_process.py DELIVERIES
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from service.reconciler import Reconciler, ReconcilerSettings
from service.secret_file import InstallSecret
from service.webhooks import Delivery, Outcome, WebhookSender
from worker.contract.logs import configure_logging
from worker.contract.outbox import OutboxEvent


class FileSender(WebhookSender):
    """A receiver that is always there and remembers what it was sent."""

    def __init__(self, secret: InstallSecret, path: Path) -> None:
        super().__init__(secret)
        self._path = path

    def send(
        self, event: OutboxEvent, *, principal: str, metadata: Mapping[str, str] | None = None
    ) -> Delivery:
        # The release before has no metadata, and this file is what both run.
        line = f"{event.id} {event.job_id} {event.type}\n".encode()
        # One write of a short line is whole even if this process is killed.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return Delivery(Outcome.DELIVERED, 200, principal)


def main() -> None:
    settings = ReconcilerSettings()
    configure_logging("reconciler", settings.log_level)
    sender = FileSender(InstallSecret(settings.secret_path), Path(sys.argv[1]))
    Reconciler(settings, sender).run(threading.Event())


if __name__ == "__main__":
    main()
