"""One video to draw: what a renderer is asked, what it answers, and where its frames go.

Importing this module costs nothing; numpy and the model are imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from worker.contract.intake.file_names import (
    DRIVING,
    FACES,
    ORIGINAL,
    PORTRAIT,
    SOUND,
    SPEECH,
    VIDEO,
    reference_name,
)
from worker.contract.messages import JobInput, SamplingOptions, Stage
from worker.contract.option_types import Range
from worker.contract.results import RendererInfo, SyncScore, VideoUse
from worker.contract.segments import SegmentPlan
from worker.progress import ProgressSink
from worker.team import OnFrames, Team, VideoSize, draw_together
from worker.video_file import NO_LABEL, Labelling, open_video, video_tags
from worker.watermark import Watermark

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from model.media.encoders import VideoEncoder
    from model.media.video_writer import VideoWriter


@dataclass(frozen=True)
class Watcher:
    """Who sees a film while it is drawn.

    Args:
        take: See `model.media.fragments.FragmentWriter`.
        is_vital: Whether drawing ends when this fails.
    """

    take: Callable[[bytes | None], None]
    is_vital: bool = False


@dataclass(frozen=True)
class RenderRequest:
    """One video to draw. All files are the intake's: normalised and trusted.

    Args:
        image: `input.png`, RGB, upright, even sides; or None where a video is dubbed.
        speech: `speech.flac`, 16 kHz mono.
        sound: The upload's own track at 48 kHz for muxing, or None for a silent video.
        output: Where the MP4 goes; must not exist.
        options: The caller's choices.
        video: `input.mkv`, to be dubbed, at the rate of the options; exactly one of it and `image`.
        driving: `driving.mkv`, whose head motion the image takes over.
        references: Further pictures of the same person.
        original: `original.jpg`, the image as large as it was sent, where it was shrunk.
        dubbed: Seconds of the video whose mouth is drawn, None for all.
        faces: `faces.npz`, what the detector found in an avatar's pictures before.
        labelling: The visible label that the finished frames get.
        watermark: The invisible mark that they get, or None.
        watcher: Who sees the film while it is drawn, or None.
        team: Who may draw parts of it, None where one worker draws all.
        helps: The video is another worker's, and is divided so: segments are drawn, nothing is joined.

    Raises:
        ValueError: Both or neither of `image` and `video`, or a driving video without an image.
    """

    image: Path | None
    speech: Path
    sound: Path | None
    output: Path
    options: SamplingOptions
    video: Path | None = None
    driving: Path | None = None
    references: tuple[Path, ...] = ()
    original: Path | None = None
    dubbed: tuple[Range, ...] | None = None
    faces: Path | None = None
    labelling: Labelling = NO_LABEL
    watermark: Watermark | None = None
    watcher: Watcher | None = None
    team: Team | None = None
    helps: SegmentPlan | None = None

    def segment_frames(self, size: VideoSize) -> int | None:
        """Frames of the segments that its file is encoded in; None for one piece."""
        plan = self.helps
        if plan is None and self.team is not None:
            plan = self.team.possible(size)
        return None if plan is None else plan.segment_frames

    def __post_init__(self) -> None:
        if (self.image is None) == (self.video is None):
            raise ValueError("expected either an image or a video, got both or none")
        if self.driving is not None and self.image is None:
            raise ValueError("expected an image beside the driving video, got none")

    @classmethod
    def of(
        cls,
        job_input: JobInput,
        path_of: Callable[[str], Path],
        output: Path,
        labelling: Labelling,
        watermark: Watermark | None = None,
        *,
        team: Team | None = None,
        helps: SegmentPlan | None = None,
    ) -> RenderRequest:
        """The request for an input that `worker.contract.intake.entry.take_in` accepted.

        Args:
            job_input: What was accepted.
            path_of: Where the normalised file of a name lies.
            output: Where the MP4 goes.
            labelling: The deployment's label, for callers who chose none.
            watermark: What is put into its pictures, or None.
            team: Who may draw parts of it.
            helps: How another worker divided it.
        """
        has_driving = job_input.driving_video is not None
        has_original = job_input.image is not None and job_input.image.has_original
        return cls(
            image=None if job_input.image is None else path_of(PORTRAIT),
            speech=path_of(SPEECH),
            # nobody hears a photograph that listens
            sound=path_of(SOUND) if job_input.options.seconds is None else None,
            output=output,
            options=job_input.options,
            video=None if job_input.video is None else path_of(VIDEO),
            driving=path_of(DRIVING) if has_driving else None,
            references=tuple(
                path_of(reference_name(number)) for number in range(len(job_input.references))
            ),
            original=path_of(ORIGINAL) if has_original else None,
            dubbed=None if job_input.video is None else job_input.video.dubbed,
            faces=path_of(FACES) if job_input.has_faces else None,
            labelling=labelling.chosen(job_input.options),
            watermark=watermark,
            team=team,
            helps=helps,
        )


@dataclass(frozen=True)
class RenderResult:
    """What was drawn. `timings_s` has seconds per stage, `seconds` is the video's length.

    `video` says what became of the frames of a video that was dubbed or drove a photograph, `notes` what else
    the person who sent the sound should know. `sync` is whether the drawn lips say what is heard.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    seconds: float
    timings_s: dict[str, float]
    info: RendererInfo
    face_bbox_xyxy: tuple[float, float, float, float] | None
    video: VideoUse | None = None
    notes: tuple[str, ...] = ()
    sync: SyncScore | None = None


class Renderer(Protocol):
    """Draws videos, one at a time."""

    @property
    def info(self) -> RendererInfo:
        """What draws, for the record."""

    def warm_up(self) -> None:
        """Pay all first-call costs now, before the first job waits for them."""

    def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
        """Write `request.output`.

        Raises:
            model.errors.ModelError: The input or the model failed.
            worker.progress.RenderInterruptedError: The sink asked to stop.
        """


def draw_video(
    request: RenderRequest,
    progress: ProgressSink,
    size: VideoSize,
    draw: Callable[[RenderRequest, int, int, OnFrames], None],
) -> None:
    """Draw all frames, alone or with others; or, for a helper, some of another worker's.

    Args:
        request: What for.
        progress: Is told of frames.
        size: Of the whole video.
        draw: Draws the frames from one number to another into the output of a request.
    """

    def draw_part(path: Path | None, start: int, stop: int, on_frames: OnFrames) -> None:
        into = request
        if path is not None:
            # Parts come in any order, so nobody watches them.
            into = replace(request, output=path, sound=None, watcher=None)
        draw(into, start, stop, on_frames)

    def join(parts: Sequence[Path], lengths: Sequence[int]) -> None:
        from model.media.joining import join_videos

        progress.stage(Stage.ENCODING)
        tags = video_tags(is_edited=request.video is not None)
        sound = request.sound
        join_videos(parts, lengths, request.output, fps=size.fps, sound=sound, tags=tags)

    def tell(done: int) -> None:
        progress.frames(done, size.num_frames)

    draw_together(request.team, request.helps, size, draw_part, join, request.output.parent, tell)


def open_output(
    request: RenderRequest,
    width: int,
    height: int,
    size: VideoSize,
    *,
    first_frame: int = 0,
    encoder: VideoEncoder = "libx264",
) -> VideoWriter:
    """A writer of the finished frames of a request, from one of them on; see `open_video`."""
    from model.media.video_writer import LiveOutput

    watcher = request.watcher
    live = None if watcher is None else LiveOutput(watcher.take, size.num_frames, watcher.is_vital)
    segment_frames = request.segment_frames(size)
    return open_video(
        request.output,
        request.sound,
        request.labelling,
        width,
        height,
        size.fps,
        is_edited=request.video is not None,
        watermark=request.watermark,
        live=live,
        first_frame=first_frame,
        # Parts of several workers are joined as they are, and the whole by one is to be the same: x264's.
        encoder=encoder if segment_frames is None else "libx264",
        segment_frames=segment_frames,
    )


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The picture `(H, W, 3)`, uint8 RGB. The intake made the file, so nothing is checked again."""
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)
