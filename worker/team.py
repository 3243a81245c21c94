"""Several workers draw one long video: its worker calls others, all take segments, its worker joins them.

    owner    begin ─▶ draw segments until all are drawn, by whomever ─▶ join ─▶ sound, signature, as ever
    helpers          draw segments until none is free, or another job waits

Nobody waits for a helper: a segment whose lease lapses is drawn again by whoever asks next, at last by
the owner.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from redis import RedisError

from worker.contract.artifacts import ArtifactStore
from worker.contract.logs import get_logger
from worker.contract.presence import Presence, ProcessKind
from worker.contract.results import RendererInfo
from worker.contract.segments import ALL_DRAWN, NOT_WANTED, SegmentPlan, Segments
from worker.progress import LeaseLostError

_LOOK_S: Final = 0.2
_RENEWALS: Final = 4
"""A segment's lease is renewed so often in its length, if batches allow."""
_log = get_logger(__name__)
_Answer = TypeVar("_Answer")

OnFrames = Callable[[int], None]
"""Is told how many frames were drawn since it was told last."""
DrawPart = Callable[[Path | None, int, int, OnFrames], None]
"""Draws the frames from one number to another, in batches, into a file; None = the finished one."""


@dataclass(frozen=True)
class VideoSize:
    """What dividing a video depends on.

    Args:
        num_frames: Of the whole.
        fps: Frames per second.
        batch_size: Frames that are drawn at once.
        info: What draws.
    """

    num_frames: int
    fps: float
    batch_size: int
    info: RendererInfo


@dataclass(frozen=True)
class Split:
    """When a video is drawn by several workers.

    Args:
        segment_s: Length of a segment in seconds; None = never. A video of less than two is drawn by one.
        presence: Says how many workers there are.
    """

    segment_s: float | None
    presence: Presence

    def plan(self, size: VideoSize) -> SegmentPlan:
        """How a video would be divided: at borders of batches, so that each is drawn as in the whole."""
        batches = max(1, round((self.segment_s or 0.0) * size.fps / size.batch_size))
        return SegmentPlan(size.num_frames, batches * size.batch_size, renderer_words(size.info))


def renderer_words(info: RendererInfo) -> str:
    """What has to be equal for two workers to draw the same pictures."""
    device = info.device.split(":")[0]
    return f"{info.model_name} {info.weights_sha256} {info.dtype} {device}"


@dataclass
class Team:
    """One process's part in drawing a video.

    Args:
        store: Where segments are kept until they are joined.
        segments: The ledger's word on them.
        job_id: The job.
        lease_s: Length of a segment's lease, in seconds.
        on_wait: Called now and then while nothing is left to draw; what it raises ends the waiting.
        split: The owner's: when to divide; None for helpers.
        attempt: Of the job.
        holder: Name of this process, by which others see that it is gone.
    """

    store: ArtifactStore
    segments: Segments
    job_id: str
    lease_s: float
    on_wait: Callable[[], None]
    split: Split | None = None
    attempt: int = 1
    holder: str = ""
    _part: str = field(default_factory=lambda: secrets.token_hex(8))
    _renewed_at: float = 0.0

    @property
    def _token(self) -> str:
        return f"{self.holder}:{self._part}"

    def possible(self, size: VideoSize) -> SegmentPlan | None:
        """How the video would be divided; None for one that never is. Its file has these segments, whoever draws it."""
        if self.split is None or self.split.segment_s is None:
            return None
        plan = self.split.plan(size)
        return plan if size.num_frames >= 2 * plan.segment_frames else None

    def begin(self, size: VideoSize) -> SegmentPlan | None:
        """Divide the video if that is worth it and others have the time; None: draw it alone.

        A job that was divided before goes on where it was.
        """
        plan = self.possible(size)
        if self.split is None or plan is None:
            return None
        try:
            is_known = self.segments.plan() == plan
            helpers = min(self.split.presence.count(ProcessKind.WORKER), plan.count) - 1
            if not is_known and (helpers < 1 or self.segments.others_wait()):
                return None
            self.segments.begin(plan)
            if helpers > 0:
                self.segments.call_helpers(self.attempt, helpers)
        except RedisError:
            # Alone it is drawn all the same.
            return None
        _log.info("job_split", segments=plan.count, helpers=helpers)
        return plan

    def draw(
        self, plan: SegmentPlan, draw_part: DrawPart, folder: Path, on_total: OnFrames
    ) -> None:
        """Draw segments until none is left to draw; the owner waits for those that others draw.

        Args:
            plan: How the video is divided.
            draw_part: Draws one segment.
            folder: Scratch.
            on_total: Is told how many frames of the whole are drawn, by anybody.
        """
        while True:
            number = self._insist(lambda: self.segments.claim(self._token, plan))
            if number >= 0:
                self._draw_one(plan, number, draw_part, folder, on_total)
                if self.split is None and self._insist(self.segments.others_wait):
                    return
            elif number == ALL_DRAWN or self.split is None:
                return
            elif number == NOT_WANTED:
                # Cancelled or given to another worker; this says which.
                self.on_wait()
                raise LeaseLostError(self.job_id)
            else:
                self.on_wait()
                time.sleep(_LOOK_S)

    def _draw_one(
        self,
        plan: SegmentPlan,
        number: int,
        draw_part: DrawPart,
        folder: Path,
        on_total: OnFrames,
    ) -> None:
        start, stop = plan.borders(number)
        _log.info("segment_begun", number=number, first_frame=start)
        others = self._num_drawn(plan)
        done = 0
        path = folder / f"segment-{number}.mp4"

        def on_frames(count: int) -> None:
            nonlocal done
            done += count
            self._renew(number)
            on_total(others + done)

        try:
            draw_part(path, start, stop, on_frames)
            key = f"results/{self.job_id}/segment-{number}-{self._part}.mp4"
            self.store.put(key, path)
        except BaseException:
            with contextlib.suppress(RedisError):
                self.segments.give_back(number, self._token)
            raise
        if not self._insist(lambda: self.segments.finish(number, self._token, key)):
            # Somebody drew it meanwhile, or the job has ended.
            with contextlib.suppress(OSError):
                self.store.delete(key)
        _log.info("segment_drawn", number=number)

    @contextmanager
    def gathered(self, plan: SegmentPlan) -> Iterator[list[Path]]:
        """The files of all segments in their order."""
        keys = self._insist(self.segments.drawn)
        with ExitStack() as stack:
            yield [stack.enter_context(self.store.local_copy(keys[n])) for n in range(plan.count)]

    def _num_drawn(self, plan: SegmentPlan) -> int:
        borders = (plan.borders(number) for number in self._insist(self.segments.drawn))
        return sum(stop - start for start, stop in borders)

    def _renew(self, number: int) -> None:
        if time.monotonic() - self._renewed_at < self.lease_s / _RENEWALS:
            return
        with contextlib.suppress(RedisError):
            is_ours = self.segments.renew(number, self._token)
            self._renewed_at = time.monotonic()
            if not is_ours and self.split is None:
                raise LeaseLostError(self.job_id)

    def _insist(self, call: Callable[[], _Answer]) -> _Answer:
        """Ask Redis until it answers, as long as `on_wait` lets us."""
        while True:
            try:
                return call()
            except RedisError:
                self.on_wait()
                time.sleep(_LOOK_S)


def clear_segments(store: ArtifactStore, segments: Segments) -> None:
    """Erase the segments of a video that is published; what is forgotten here is the sweep's."""
    with contextlib.suppress(RedisError, OSError):
        for key in segments.drawn().values():
            store.delete(key)
        segments.forget()


def draw_together(
    team: Team | None,
    helps: SegmentPlan | None,
    size: VideoSize,
    draw_part: DrawPart,
    join: Callable[[Sequence[Path], Sequence[int]], None],
    folder: Path,
    on_total: OnFrames,
) -> None:
    """Draw a video: alone, as its owner with others, or as a helper some of its segments.

    Args:
        team: Who may draw parts of it; None = nobody else.
        helps: A helper's: how the owner divided it.
        size: Of the video.
        draw_part: Draws some frames.
        join: Makes the finished file of those of the segments and their frames.
        folder: Scratch.
        on_total: Is told how many frames are drawn.

    Raises:
        ValueError: The owner divided a video of another length.
    """
    divided = helps
    if team is not None and helps is None:
        divided = team.begin(size)
    if team is None or divided is None:
        done = 0

        def on_frames(count: int) -> None:
            nonlocal done
            done += count
            on_total(done)

        draw_part(None, 0, size.num_frames, on_frames)
        return
    if divided.num_frames != size.num_frames:
        raise ValueError(
            f"expected a video of {divided.num_frames} frames, as its owner divided it; "
            f"got one of {size.num_frames}"
        )
    team.draw(divided, draw_part, folder, on_total)
    if helps is None:
        borders = [divided.borders(number) for number in range(divided.count)]
        with team.gathered(divided) as parts:
            join(parts, [stop - start for start, stop in borders])
        on_total(size.num_frames)
