"""Media are erased as soon as their job has ended; `job.json` stays, from which `rebuild` lives.

    the end of a job ──▶ ended.json (unless there is a video) ──▶ media erased ──▶ bytes told

Everything here is safe to repeat, and to run twice at the same time.
"""

from __future__ import annotations

from worker.contract.artifacts import ArtifactStore, StorageFullError
from worker.contract.ending import ENDED, media_names, write_ending
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.live_films import erase_pieces
from worker.contract.logs import get_logger
from worker.contract.media import MediaIndex
from worker.contract.messages import JobRecord, JobState

_log = get_logger("reconciler")


class MediaEraser:
    """Erases the media of jobs that have ended.

    Args:
        store: Where the files are.
        ledger: Knows the jobs.
        index: Knows which of them have media.
    """

    def __init__(self, store: ArtifactStore, ledger: Ledger, index: MediaIndex) -> None:
        self._store = store
        self._ledger = ledger
        self._index = index

    def erase_ended(self, job_id: str) -> None:
        """Erase the media of a job that the index names.

        Raises:
            OSError: The volume cannot be used; the job comes up again later.
        """
        try:
            record = self._ledger.get(job_id)
        except UnreadableRecordError:
            # A newer release may still work with them. The sweep looks at it now and then.
            self._index.forget(job_id)
            return
        if record is None:
            # It was deleted, and its files with it.
            self._index.forget(job_id)
            return
        try:
            self.erase(record)
        except OSError:
            self._index.postpone(job_id)
            raise

    def erase(self, record: JobRecord) -> int:
        """Erase the media of a job, unless it is open.

        Returns:
            How many files were erased.

        Raises:
            OSError: The volume cannot be used.
        """
        if not record.state.is_terminal:
            return 0
        names = media_names(self._store, record.id)
        is_told = not names or self._keep_ending(record)
        # Asked again, immediately before the files go: a ledger that was lost meanwhile may have
        # been rebuilt, and have the job open again.
        if not self._has_ended(record.id):
            self._store.delete(f"inputs/{record.id}/{ENDED}")
            return 0
        for name in names:
            self._store.delete(f"inputs/{record.id}/{name}")
        if record.state is not JobState.SUCCEEDED:
            # Who watches a video that is complete may be behind: the sweep comes later.
            erase_pieces(self._store, record.id)
        if not is_told and not self._keep_ending(record):
            _log.warning("ending_not_kept", job_id=record.id)
        kept = 0 if record.result is None or record.erased else record.result.bytes
        self._ledger.set_stored_bytes(record.id, kept)
        self._index.forget(record.id)
        return len(names)

    def _keep_ending(self, record: JobRecord) -> bool:
        """Whether a rebuilt ledger will know how the job ended."""
        if record.state is JobState.SUCCEEDED:
            return True
        try:
            write_ending(self._store, record)
        except StorageFullError:
            # The media must go all the same: they may be what fills the volume.
            return False
        return True

    def _has_ended(self, job_id: str) -> bool:
        try:
            record = self._ledger.get(job_id)
        except UnreadableRecordError:
            return False
        return record is None or record.state.is_terminal
