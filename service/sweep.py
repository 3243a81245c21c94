"""Files that belong to nobody: what killed processes left, and what was kept long enough.

Files are erased on the ledger's word alone, so the ledger is first asked who it is: one that has
forgotten everything (a lost volume) must not talk us into erasing what `talkface rebuild` needs.
For the same reason the files of API keys are completed on its word, and never erased.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from itertools import islice
from typing import Final

from service.audit import AuditLog
from service.erasure import MediaEraser
from service.key_recovery import KeyRecovery
from worker.contract.artifacts import ArtifactExistsError, ArtifactStore
from worker.contract.asset_registry import COUNTED, AssetRegistry
from worker.contract.assets import Asset, AssetKind
from worker.contract.ending import media_names
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.live_films import is_piece
from worker.contract.logs import get_logger
from worker.contract.messages import JobRecord
from worker.contract.recovery import ExpiredJob, Recovery

_MARKS: Final = "ledger"
_LOOKED_AT: Final = 64
_log = get_logger("reconciler")


class Sweeper:
    """Erases files that no job needs.

    Args:
        store: Where the files are.
        ledger: Knows the jobs.
        recovery: Knows what has expired.
        keys: Knows the keys.
        eraser: Erases the media of jobs that have ended.
        assets: Knows what callers keep.
        orphan_after_s: Age from which files without a job are nobody's: longer than any upload
            takes from its first file to the ledger's word.
        record_kept_s: How long a job that has expired is remembered without its files.
        audit: Is told of what expired.
        on_progress: Called again and again during a long sweep.
    """

    def __init__(
        self,
        store: ArtifactStore,
        ledger: Ledger,
        recovery: Recovery,
        keys: KeyRecovery,
        eraser: MediaEraser,
        assets: AssetRegistry,
        *,
        orphan_after_s: float,
        record_kept_s: float,
        audit: AuditLog | None = None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._recovery = recovery
        self._keys = keys
        self._eraser = eraser
        self._orphan_after_s = orphan_after_s
        self._record_kept_s = record_kept_s
        self._audit = audit
        self._on_progress = on_progress
        self._assets = assets

    def expire(self, job: ExpiredJob) -> None:
        """Erase the files of a job whose time is over, or a record that outlived its files."""
        self._erase(job.job_id)
        if self._audit is not None and not job.is_erased:
            self._audit.write("expired", job.job_id)
        if job.is_erased:
            self._ledger.delete(job.job_id)
        else:
            self._recovery.mark_erased(job.job_id, record_kept_s=self._record_kept_s)

    def expire_asset(self, asset: Asset) -> None:
        """Erase an avatar, a file or a picture that was looked at, whose time is over."""
        self._assets.delete(asset)
        self._store.delete_prefix(asset.prefix)
        if self._audit is not None and asset.kind is not AssetKind.LOOK:
            self._audit.write("expired", asset.id)

    def sweep(self) -> int:
        """Erase what belongs to no job, or to one that has ended, and write the files of API keys.

        Files of a job that cannot be read here are left alone.

        Returns:
            How many files and folders were erased.
        """
        removed = self._store.sweep(older_than_s=self._orphan_after_s)
        if not self._is_our_ledger():
            _log.error("ledger_lost", hint="nothing is erased; run talkface rebuild")
            return removed
        for sweep_one, kind in ((self._sweep_inputs, "inputs"), (self._sweep_results, "results")):
            for job_id, age_s in self._store.names(kind).items():
                with contextlib.suppress(UnreadableRecordError):
                    removed += sweep_one(job_id, age_s)
                self._on_progress()
        for asset_id, age_s in self._store.names("assets").items():
            removed += self._sweep_asset(asset_id, age_s)
        self._correct_bytes()
        if self._audit is not None:
            removed += self._audit.sweep()
        # Last, because it may need the room.
        if kept := self._keys.keep():
            _log.info("keys_kept", keys=kept)
        return removed

    def adopt(self) -> None:
        """From now on this ledger is the one whose word counts."""
        self._store.delete_prefix(_MARKS)
        self._mark(self._recovery.ledger_id(secrets.token_hex(16)))

    def _sweep_inputs(self, job_id: str, age_s: float) -> int:
        record = self._ledger.get(job_id)
        is_orphan = record is None and age_s > self._orphan_after_s
        if not is_orphan and not (record and record.erased):
            # Another release accepted it, or somebody wrote a file after its end.
            has_ended = record is not None and record.state.is_terminal
            if record is None or not has_ended or not media_names(self._store, job_id):
                return 0
            return self._eraser.erase(record)
        self._store.delete_prefix(f"inputs/{job_id}")
        return 1

    def _sweep_asset(self, asset_id: str, age_s: float) -> int:
        if age_s <= self._orphan_after_s or self._assets.get(asset_id) is not None:
            return 0
        self._store.delete_prefix(f"assets/{asset_id}")
        return 1

    def _sweep_results(self, job_id: str, age_s: float) -> int:
        record = self._ledger.get(job_id)
        if record is None:
            if age_s <= self._orphan_after_s:
                return 0
            self._store.delete_prefix(f"results/{job_id}")
            return 1
        # While a job is open, each file there may be the one that is about to count.
        if not record.state.is_terminal:
            return 0
        has_result = record.result is not None and not record.erased
        orphans = [
            name
            for name, its_age_s in self._store.names(f"results/{job_id}").items()
            if not _belongs(name, record)
            # Who watched the video while it was drawn may still be behind.
            and not (has_result and is_piece(name) and its_age_s <= self._orphan_after_s)
        ]
        for name in orphans:
            self._store.delete(f"results/{job_id}/{name}")
        return len(orphans)

    def _correct_bytes(self) -> None:
        """Take back bytes of jobs that another release deleted, or whose files it erased."""
        for job_id in self._ledger.counted_jobs():
            if job_id.startswith(COUNTED):
                continue
            with contextlib.suppress(UnreadableRecordError):
                record = self._ledger.get(job_id)
                if record is None or record.erased:
                    self._ledger.set_stored_bytes(job_id, 0)
            self._on_progress()

    def _erase(self, job_id: str) -> None:
        self._store.delete_prefix(f"inputs/{job_id}")
        self._store.delete_prefix(f"results/{job_id}")

    def _is_our_ledger(self) -> bool:
        marks = self._store.names(_MARKS)
        name = self._recovery.ledger_id(secrets.token_hex(16))
        if name in marks:
            return True
        if marks:
            return False
        # The first time: files without a single job in the ledger are those of another one.
        some = list(islice(self._store.names("inputs"), _LOOKED_AT))
        if some and not any(self._recovery.is_known(job_id) for job_id in some):
            return False
        self._mark(name)
        return True

    def _mark(self, name: str) -> None:
        with self._store.scratch() as folder:
            (folder / "mark").write_text("the ledger of this folder\n")
            try:
                self._store.put(f"{_MARKS}/{name}", folder / "mark")
            except ArtifactExistsError:
                return


def _belongs(name: str, record: JobRecord) -> bool:
    """Whether a file is the job's result or lies beside it under the same name.

    By the name and not by what we know of: a newer release may keep more there than this one does.
    """
    if record.result is None or record.erased:
        return False
    return name.partition(".")[0] == record.result.key.rsplit("/", 1)[1].partition(".")[0]
