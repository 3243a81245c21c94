"""How a caller finds a job and sees it. Everything here asks Redis: call it in a thread."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from service.problems import ProblemError
from service.schemas.job import JobPublic, Links, public_job
from service.security import Principal
from worker.contract.errors import ErrorCode
from worker.contract.ledger import Ledger
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.messages import JobRecord, JobState

_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")


class JobViews:
    """Jobs as callers may see them.

    Args:
        ledger: The truth.
        links: Makes addresses.
    """

    def __init__(self, ledger: Ledger, links: Links) -> None:
        self._ledger = ledger
        self._links = links

    def find(self, job_id: str, principal: Principal) -> JobRecord:
        """The record of a job that is the caller's business, expired or not.

        Raises:
            ProblemError: job_not_found, also for a job of someone else.
            UnreadableRecordError: It is the caller's, and this release cannot read it.
        """
        # An id that cannot be ours is not found either; there is nothing to learn from the
        # difference.
        try:
            record = self._ledger.get(job_id) if _JOB_ID.fullmatch(job_id) else None
        except UnreadableRecordError:
            self.check(job_id, principal)
            raise
        if record is None or not principal.may_see(job_id, record.principal):
            raise _not_found()
        return record

    def check(self, job_id: str, principal: Principal) -> None:
        """Return if a job is the caller's business, even one that cannot be read here.

        Raises:
            ProblemError: job_not_found, also for a job of someone else.
        """
        if not _JOB_ID.fullmatch(job_id):
            raise _not_found()
        is_known, owner = self._ledger.owner(job_id)
        if not is_known or not principal.may_see(job_id, owner):
            raise _not_found()

    def find_kept(self, job_id: str, principal: Principal) -> JobRecord:
        """Like `find`, for what needs more than the record.

        Raises:
            ProblemError: job_not_found; result_expired.
        """
        record = self.find(job_id, principal)
        if is_expired(record):
            raise ProblemError(
                ErrorCode.RESULT_EXPIRED,
                "The files of this job were erased when their time was over. Send them again.",
                params={"state": record.state.value},
            )
        return record

    def public(self, record: JobRecord) -> JobPublic:
        """What the caller sees of a record that they may see."""
        queue_position: int | None = None
        eta_s: float | None = None
        if record.state is JobState.QUEUED:
            queue_position = self._ledger.queue_position(record)
        if not record.state.is_terminal:
            eta_s = self._ledger.eta_s(record, queue_position)
        return public_job(record, self._links, queue_position=queue_position, eta_s=eta_s)


def _not_found() -> ProblemError:
    return ProblemError(ErrorCode.JOB_NOT_FOUND, "There is no job of this id.")


def is_expired(record: JobRecord) -> bool:
    """Whether the files are erased, or will be as soon as someone looks after it."""
    is_due = record.expires_at is not None and record.expires_at <= datetime.now(UTC)
    return record.erased or is_due
