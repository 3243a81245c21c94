"""What can go wrong, seen by who calls the client."""

from __future__ import annotations

from talkface_client.models import JobPublic, Problem


class TalkfaceError(Exception):
    """Root of what this package raises."""


class ApiError(TalkfaceError):
    """The service refused a request.

    Args:
        problem: What it said; branch on `problem.code`, show `problem.detail`.
        retry_after_s: After how many seconds another try makes sense, None where it did not say.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        wrong = "".join(f"\n  {item.field}: {item.message}" for item in problem.errors or ())
        super().__init__(f"{problem.detail} [{problem.code}]{wrong}")
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str:
        """The stable word for what is wrong."""
        return self.problem.code


class UnreachableError(TalkfaceError):
    """No answer came, or none of this service."""


class JobEndedError(TalkfaceError):
    """A job ended without a video.

    Args:
        job: The job; where it failed, `job.error` says why.
    """

    def __init__(self, job: JobPublic) -> None:
        why = f"{job.error.detail} [{job.error.code}]" if job.error else f"It was {job.state}."
        super().__init__(f"Job {job.id} has no video: {why}")
        self.job = job

    @property
    def code(self) -> str | None:
        """The stable word for why it failed; None where it was cancelled."""
        return self.job.error.code if self.job.error else None


class DownloadError(TalkfaceError):
    """What was downloaded is not what the service announced."""
