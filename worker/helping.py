"""The function that RQ calls to ask a worker for help with another worker's job: a hint, which may be lost."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobRecord, JobState, Stage
from worker.contract.segments import SegmentPlan, Segments
from worker.failures import classify, is_sticky
from worker.progress import HandBackError, RenderInterruptedError
from worker.render_request import RenderRequest
from worker.team import Team, renderer_words
from worker.worker_context import WorkerContext, installed

_log = get_logger(__name__)


def help_with(job_id: str, attempt: int) -> None:
    """Draw segments of a job that another worker holds, until none is free or another job waits.

    Whatever goes wrong here, the job's worker draws what is missing.

    Raises:
        RuntimeError: No context is installed; this is not a worker process.
        redis.RedisError: Redis went away.
    """
    context = installed()
    with bound(job_id=job_id):
        try:
            record = context.ledger.get(job_id)
        except UnreadableRecordError:
            return
        segments = None if context.segments is None else context.segments(job_id)
        plan = None if segments is None else segments.plan()
        if (
            record is None
            or segments is None
            or plan is None
            or record.state is not JobState.RUNNING
            or record.attempt != attempt
            or not record.is_understood
            or record.input.pending is not None
            or plan.renderer != renderer_words(context.renderer.info)
        ):
            _log.info("help_not_wanted", attempt=attempt)
            return
        # What hangs here ends this process as a job of its own would.
        with context.heartbeat.keeping(lambda: True):
            _help(context, record, segments, plan)


def _help(context: WorkerContext, record: JobRecord, segments: Segments, plan: SegmentPlan) -> None:
    _log.info("helping", attempt=record.attempt)
    progress = HelperProgress(context)
    team = Team(
        context.store,
        segments,
        record.id,
        context.lease_s,
        progress.look,
        holder=context.worker,
    )
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(context.store.scratch())

            def local_copy(name: str) -> Path:
                return stack.enter_context(context.store.local_copy(f"inputs/{record.id}/{name}"))

            marking = context.watermarking
            request = RenderRequest.of(
                record.input,
                local_copy,
                folder / "output.mp4",
                context.labelling,
                None if marking is None else marking.for_job(record.id),
                team=team,
                helps=plan,
            )
            context.renderer.render(request, progress)
        except RenderInterruptedError as error:
            _log.info("helping_stopped", kind=type(error).__name__)
        except Exception as error:  # noqa: BLE001  the job is another worker's, who meets the fault itself
            _log.warning("helping_failed", code=classify(error).code.value, exc_info=True)
            if is_sticky(error):
                context.broken.append(type(error).__name__)
                context.stop.set()


class HelperProgress:
    """Reports nothing, because the job is another worker's; stops where this process is asked to.

    Args:
        context: The process's.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def stage(self, stage: Stage) -> None:
        """See `ProgressSink.stage`."""
        self.look()

    def frames(self, done: int, total: int) -> None:
        """See `ProgressSink.frames`."""
        self.look()

    def look(self) -> None:
        """Called again and again.

        Raises:
            HandBackError: This process is asked to stop.
        """
        self._context.heartbeat.note_progress()
        if self._context.stop.is_set():
            raise HandBackError("stopped while helping")
