"""`python -m service.reconciler`: puts right what died, again and again. No torch, no web.

Each round, all of it safe to run twice at the same time:

    lost jobs ─▶ delivered again    deadlines ─▶ failed    webhooks ─▶ sent
    media of jobs that ended, and everything of jobs whose time is over ─▶ erased
    now and then: orphaned files, the files of API keys, and RQ's own lists

One job's fault never stops a round: the job is kept aside and counted, and the others are looked
after. After each step the process says that it lives, so that `/readyz` and compose notice one
that hangs or keeps dying.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Annotated, TypeVar

from pydantic import Field
from redis import RedisError

from service.audit import AuditLog
from service.erasure import MediaEraser
from service.exposure import ANONYMOUS
from service.key_recovery import KeyRecovery
from service.secret_file import InstallSecret, SecretFileError
from service.settings import ServiceSettings
from service.sweep import Sweeper
from service.webhook_targets import AllowedTargets
from service.webhooks import Outcome, WebhookSender, retry_delay_s, trusted_authorities
from worker.contract.artifact_settings import open_store
from worker.contract.asset_registry import AssetRegistry
from worker.contract.environment import process_name, unknown_variables
from worker.contract.holders import LOOK_EVERY_S, Holders
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import bound, configure_logging, get_logger
from worker.contract.media import EndedMedia, MediaIndex
from worker.contract.outbox import Outbox, OutboxEvent
from worker.contract.presence import Presence, ProcessKind
from worker.contract.quarantine import Quarantine
from worker.contract.queues import REDIS_AWAY, connect
from worker.contract.recovery import (
    ExpiredJob,
    LostJob,
    OverdueJob,
    Recovered,
    Recovery,
    deadline_failure,
)
from worker.contract.start import StartError, check_data_dir, read_settings, refuse
from worker.contract.webhook_state import WebhookState

PARALLEL_WEBHOOKS = 8
RETRY_ERASING_S = 600.0
_Job = TypeVar("_Job", LostJob, OverdueJob, ExpiredJob, EndedMedia)
_log = get_logger("reconciler")


class ReconcilerSettings(ServiceSettings):
    """Settings of `python -m service.reconciler`, beside those of the service."""

    reconcile_every_s: Annotated[
        float, Field(gt=0, description="Pause between two rounds of the reconciler, in seconds.")
    ] = 2.0
    lost_after_s: Annotated[
        float,
        Field(gt=0, description="A job that nobody holds for so long is delivered again."),
    ] = 10.0
    max_deliveries: Annotated[
        int, Field(ge=1, description="A job whose worker died so often fails with worker_lost.")
    ] = 3
    sweep_every_s: Annotated[
        float, Field(gt=0, description="Pause between two looks for orphaned files, in seconds.")
    ] = 600.0
    orphan_after_s: Annotated[
        float, Field(gt=0, description="Files without a job are erased when they are so old.")
    ] = 3600.0
    record_retention_s: Annotated[
        float, Field(ge=0, description="An expired job is remembered for so long, without files.")
    ] = 30 * 86_400.0


class Reconciler:
    """One round after the other.

    Args:
        settings: The deployment's settings.
        sender: Sends webhooks; None = made from the settings when the first one is due.
    """

    def __init__(self, settings: ReconcilerSettings, sender: WebhookSender | None = None) -> None:
        redis = connect(settings.redis_url)
        self._settings = settings
        self._name = process_name()
        self._presence = Presence(redis)
        self._quarantine = Quarantine(redis)
        self._ledger = Ledger(redis)
        self._outbox = Outbox(redis)
        self._recovery = Recovery(
            redis, lost_after_s=settings.lost_after_s, max_deaths=settings.max_deliveries
        )
        self._holders = Holders(redis)
        store = open_store(settings)
        self._media = MediaIndex(redis)
        self._eraser = MediaEraser(store, self._ledger, self._media)
        self._assets = AssetRegistry(redis)
        self._sweeper = Sweeper(
            store,
            self._ledger,
            self._recovery,
            KeyRecovery(redis, store),
            self._eraser,
            self._assets,
            orphan_after_s=settings.orphan_after_s,
            record_kept_s=settings.record_retention_s,
            audit=AuditLog(settings.data_dir, settings.audit_retention_s),
            on_progress=self._beat,
        )
        self._sender = sender
        # So that a receiver that hangs delays no recovery.
        self._senders = ThreadPoolExecutor(PARALLEL_WEBHOOKS, thread_name_prefix="webhook")
        self._in_flight = 0
        self._lock = threading.Lock()
        self._swept_at = float("-inf")
        self._beat_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Go round until `stop` is set; Redis may be away for any time."""
        watcher = threading.Thread(
            target=self._watch_holders, args=(stop,), name="holders", daemon=True
        )
        watcher.start()
        while not stop.is_set():
            try:
                self.round()
            except RedisError as error:
                # Not its message, which may repeat the URL with its password.
                _log.warning("redis_unavailable", kind=type(error).__name__)
            stop.wait(self._settings.reconcile_every_s)
        watcher.join()
        self._senders.shutdown(wait=True, cancel_futures=True)
        with contextlib.suppress(RedisError):
            self._presence.sign_off(ProcessKind.RECONCILER, self._name)

    def round(self) -> None:
        """Everything once.

        Raises:
            redis.RedisError: Redis cannot be reached.
        """
        for step in (
            self._recover_lost,
            self._end_overdue,
            self._skip_inspection,
            self._send_webhooks,
            self._erase_media,
            self._expire,
            self._expire_assets,
            self._sweep,
        ):
            try:
                step()
            except REDIS_AWAY:
                raise
            except Exception:  # noqa: BLE001  one step's fault must not stop the others
                _log.error("step_failed", step=step.__name__.strip("_"), exc_info=True)
            self._beat()

    def _watch_holders(self, stop: threading.Event) -> None:
        """Deliver again what dead processes held, however long a round erases or sweeps."""
        while not stop.wait(LOOK_EVERY_S):
            try:
                for job in self._holders.disconnected():
                    with bound(job_id=job.job_id):
                        self._recover(job)
            except RedisError:
                # The rounds say so.
                continue
            except Exception:  # noqa: BLE001  a job that cannot be handled is kept aside by a round
                _log.error("step_failed", step="watch_holders", exc_info=True)

    def _beat(self) -> None:
        """Say that this process goes on, at most once a second."""
        if time.monotonic() - self._beat_at >= 1.0:
            self._presence.beat(ProcessKind.RECONCILER, self._name)
            self._beat_at = time.monotonic()

    def _for_each(self, jobs: Iterable[_Job], handle: Callable[[_Job], None]) -> int:
        """Handle one job after the other; one that cannot be handled is kept aside.

        Returns:
            How many were handled.
        """
        known = self._quarantine.ids()
        handled = 0
        for job in jobs:
            with bound(job_id=job.job_id):
                try:
                    handle(job)
                except REDIS_AWAY:
                    raise
                except Exception as error:  # noqa: BLE001  the job boundary
                    _log.warning("job_not_handled", exc_info=job.job_id not in known)
                    self._quarantine.add(job.job_id, type(error).__name__)
                else:
                    handled += 1
                    if job.job_id in known:
                        self._quarantine.release(job.job_id)
            self._beat()
        return handled

    def _recover_lost(self) -> None:
        self._for_each(self._recovery.lost(), self._recover)

    def _recover(self, job: LostJob) -> None:
        outcome = self._recovery.recover(job)
        if outcome is not Recovered.CHANGED:
            _log.warning("job_recovered", outcome=outcome.value, attempt=job.attempt)

    def _end_overdue(self) -> None:
        def end(job: OverdueJob) -> None:
            if self._ledger.end_open(job.job_id, deadline_failure(job.deadline_at)):
                _log.warning("deadline_exceeded")

        self._for_each(self._recovery.overdue(), end)

    def _skip_inspection(self) -> None:
        if moved := self._recovery.unattended():
            _log.warning("inspection_skipped", jobs=moved)

    def _erase_media(self) -> None:
        def erase(job: EndedMedia) -> None:
            self._eraser.erase_ended(job.job_id)

        if erased := self._for_each(self._media.ended(), erase):
            _log.info("media_erased", jobs=erased)

    def _expire(self) -> None:
        def expire(job: ExpiredJob) -> None:
            try:
                self._sweeper.expire(job)
            except OSError:
                self._recovery.postpone_expiry(job.job_id, RETRY_ERASING_S)
                raise

        if expired := self._for_each(self._recovery.expired(), expire):
            _log.info("expired", jobs=expired)

    def _expire_assets(self) -> None:
        for asset in self._assets.expired():
            self._sweeper.expire_asset(asset)
            _log.info("asset_expired", asset_id=asset.id)

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_at >= self._settings.sweep_every_s:
            self._swept_at = time.monotonic()
            swept, cleaned = self._sweeper.sweep(), self._recovery.clean_rq()
            _log.info("swept", files=swept, queue_entries=cleaned)

    def _send_webhooks(self) -> None:
        with self._lock:
            free = PARALLEL_WEBHOOKS - self._in_flight
        if free <= 0:
            return
        for event in self._outbox.due(limit=free):
            with self._lock:
                self._in_flight += 1
            self._senders.submit(self._deliver, event)

    def _deliver(self, event: OutboxEvent) -> None:
        """Send one event and write down what became of it; runs in a thread of its own."""
        try:
            with bound(job_id=event.job_id):
                is_known, principal = self._ledger.owner(event.job_id)
                if not is_known:  # deleted meanwhile
                    self._outbox.done(event.id, "given_up")
                    return
                metadata = self._metadata(event.job_id)
                self._settle(event, self._webhook_sender(), principal or ANONYMOUS, metadata)
        except (RedisError, OSError, SecretFileError) as error:
            # The event comes up again by itself, under the same id.
            _log.warning("webhook_postponed", kind=type(error).__name__)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _metadata(self, job_id: str) -> Mapping[str, str]:
        try:
            record = self._ledger.get(job_id)
        except UnreadableRecordError:  # of a newer release; its end is told all the same
            return {}
        return {} if record is None else record.metadata

    def _settle(
        self,
        event: OutboxEvent,
        sender: WebhookSender,
        principal: str,
        metadata: Mapping[str, str],
    ) -> None:
        delivery = sender.send(event, principal=principal, metadata=metadata)
        delay_s, now = retry_delay_s(event.attempts), datetime.now(UTC)
        told = WebhookState(
            state="waiting",
            attempts=event.attempts + 1,
            status=delivery.status,
            reason=delivery.reason,
            tried_at=now,
        )
        if delivery.outcome is Outcome.DELIVERED:
            told = told.model_copy(update={"state": "delivered"})
            self._outbox.done(event.id, "delivered")
        elif delivery.outcome is Outcome.GIVE_UP or delay_s is None:
            told = told.model_copy(update={"state": "given_up"})
            self._outbox.done(event.id, "given_up")
            _log.warning("webhook_given_up", attempts=told.attempts, reason=delivery.reason)
        else:
            told = told.model_copy(update={"next_at": now + timedelta(seconds=delay_s)})
            self._outbox.reschedule(event.id, time.time() + delay_s)
        self._outbox.note(event.job_id, told)

    def _webhook_sender(self) -> WebhookSender:
        with self._lock:
            if self._sender is None:
                self._sender = make_sender(self._settings)
            return self._sender


def make_sender(settings: ServiceSettings) -> WebhookSender:
    """The sender with the installation's secret."""
    secret = InstallSecret(settings.secret_path)
    return WebhookSender(
        secret,
        timeout_s=settings.webhook_timeout_s,
        is_allowed=AllowedTargets.of(settings.webhook_allow).allow,
        ssl_context=trusted_authorities(settings.webhook_ca_file),
    )


def _until_signal(set_stop: Callable[[], None]) -> None:
    def note(_signum: int, _frame: FrameType | None) -> None:
        set_stop()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    try:
        settings = read_settings(ReconcilerSettings)
        check_data_dir(settings.data_dir)
    except StartError as error:
        refuse(error)
    configure_logging("reconciler", settings.log_level)
    for name in unknown_variables(os.environ):
        _log.warning("unknown_variable", name=name)
    stop = threading.Event()
    _until_signal(stop.set)
    _log.info("reconciler_started")
    Reconciler(settings).run(stop)
    _log.info("reconciler_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
