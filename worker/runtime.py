"""Renderers: the one place that drives the model, for the queue and for `talkface generate` alike.

Importing this module costs nothing; torch and numpy are imported when a renderer is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from model.errors import UnsupportedMediaError
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
from worker.contract.logs import get_logger
from worker.contract.messages import (
    INTAKE_OPTIONS,
    WRITER_OPTIONS,
    JobInput,
    SamplingOptions,
    Stage,
)
from worker.contract.option_types import Range
from worker.contract.results import RendererInfo, SyncScore, VideoUse
from worker.progress import ProgressSink
from worker.settings import WorkerSettings
from worker.sound_offset import put_sound_in_place
from worker.stage_clock import StageClock
from worker.sync_scoring import SyncScorer
from worker.video_file import NO_LABEL, Labelling, open_video
from worker.watermark import Watermark

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from model.media.frames import FrameSource
    from model.media.video_writer import VideoWriter
    from model.pipelines.options import RenderOptions
    from model.pipelines.outputs import RenderPlan
    from model.pipelines.talking_face import OnStage, TalkingFacePipeline

_log = get_logger("worker")


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
    ) -> RenderRequest:
        """The request for an input that `worker.contract.intake.entry.take_in` accepted.

        Args:
            job_input: What was accepted.
            path_of: Where the normalised file of a name lies.
            output: Where the MP4 goes.
            labelling: The deployment's label, for callers who chose none.
            watermark: What is put into its pictures, or None.
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


class PipelineRenderer:
    """Draws with the model."""

    def __init__(self, pipeline: TalkingFacePipeline, scorer: SyncScorer | None = None) -> None:
        self._pipeline = pipeline
        self._scorer = scorer

    @classmethod
    def load(cls, settings: WorkerSettings) -> PipelineRenderer:
        """Load the checkpoint that the settings name.

        Raises:
            model.errors.CheckpointError: It is absent, incomplete or altered.
            model.errors.MissingDependencyError: The detector's package or weights are absent.
        """
        from model.face.detectors import load_detector
        from model.pipelines.talking_face import load_pipeline

        pipeline = load_pipeline(settings.weights_dir, device=settings.device, dtype=settings.dtype)
        pipeline.detector = load_detector(
            settings.detector, weights_dir=settings.face_alignment_dir, device=str(pipeline.device)
        )
        return cls(pipeline, SyncScorer.load())

    @property
    def info(self) -> RendererInfo:
        """What draws, for the record."""
        return RendererInfo(
            model_name=self._pipeline.model_name,
            weights_sha256=self._pipeline.weights_sha256,
            attention_backend=self._pipeline.attention_backend,
            dtype=self._pipeline.torch_dtype_name,
            device=str(self._pipeline.device),
        )

    def warm_up(self) -> None:
        """Draw once for nothing."""
        self._pipeline.warm_up()

    def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
        """See `Renderer.render`."""
        with self._remembering(request.faces):
            return self._render(request, progress)

    @contextmanager
    def _remembering(self, path: Path | None) -> Iterator[None]:
        """Detect no face again that was found in an avatar before."""
        from model.face.remembered_faces import RememberedFaces, RememberingDetector

        detector = self._pipeline.detector
        if path is None or detector is None:
            yield
            return
        try:
            faces = RememberedFaces.load(path)
        except UnsupportedMediaError:
            # Of another release, or broken: the faces are found again, which only takes longer.
            _log.warning("remembered_faces_unreadable", exc_info=True)
            faces = RememberedFaces()
        self._pipeline.detector = RememberingDetector(detector, faces)
        try:
            yield
        finally:
            self._pipeline.detector = detector

    def _render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
        from model.media.frames import VideoFrames

        clock = StageClock()

        def begin(stage: str) -> None:
            clock.enter(Stage(stage))
            progress.stage(Stage(stage))

        moving = request.video or request.driving
        # Time stamps are rounded; the intake brought it to this rate exactly.
        source = None if moving is None else VideoFrames(moving, request.options.fps)
        offset = None
        if request.options.audio_offset_ms == "auto" and source is not None:
            begin(Stage.DETECTING)
            speech, sound, offset = put_sound_in_place(
                self._pipeline,
                source,
                request.speech,
                request.sound,
                request.options.face_index,
                request.output.parent,
            )
            request = replace(request, speech=speech, sound=sound)
        plan = self._prepare(request, source, begin)
        begin(Stage.GENERATING)
        progress.frames(0, plan.num_frames)
        done = 0
        watch = None
        # A face that listens says nothing.
        if self._scorer is not None and request.options.seconds is None:
            watch = self._scorer.begin(plan, request.speech)
        with open_output(request, plan.width, plan.height, plan.fps, plan.num_frames) as writer:
            for frames in self._pipeline.render(plan):
                if watch is not None:
                    with clock.aside(Stage.ENCODING):
                        watch.watch(done, frames)
                with clock.aside(Stage.ENCODING):
                    for frame in frames:
                        writer.write(frame)
                done += len(frames)
                progress.frames(done, plan.num_frames)
            begin(Stage.ENCODING)
        clock.enter(None)
        began = time.perf_counter()
        sync = None if watch is None or self._scorer is None else self._scorer.end(watch)
        scoring_s = {} if watch is None else {"sync": round(time.perf_counter() - began, 3)}
        x0, y0, x1, y1 = (float(edge) for edge in plan.face_bbox_xyxy)
        return RenderResult(
            num_frames=plan.num_frames,
            fps=plan.fps,
            width=plan.width,
            height=plan.height,
            seconds=plan.num_frames / plan.fps,
            timings_s=clock.rounded() | scoring_s,
            info=self.info,
            face_bbox_xyxy=(x0, y0, x1, y1),
            video=None
            if source is None
            else VideoUse(
                source_frames=source.num_frames,
                held_frames=plan.held_frames,
                looped=plan.looped,
                audio_offset_ms=None if offset is None else offset.milliseconds,
            ),
            notes=() if offset is None else (offset.note,),
            sync=sync,
        )

    def _prepare(
        self, request: RenderRequest, source: FrameSource | None, on_stage: OnStage
    ) -> RenderPlan:
        """Decide every frame; `source` has the frames of the request's one video."""
        from model.face.small_faces import choose_picture
        from model.media.audio import load_waveform

        waveform = load_waveform(request.speech)
        options = render_options(request)
        references = [read_rgb(path) for path in request.references]
        if request.image is None:
            assert source is not None
            return self._pipeline.prepare_video(
                source, waveform, options, references=references, on_stage=on_stage
            )
        image = read_rgb(request.image)
        path, detector = request.original, self._pipeline.detector
        if path is not None and options.frame != "source":
            # A window of the original has more pixels than one of the shrunk picture.
            options = replace(options, max_side=max(image.shape))
            image = read_rgb(path)
        elif path is not None and detector is not None:
            image, face_index = choose_picture(
                detector, image, lambda: read_rgb(path), options.face_index
            )
            options = replace(options, face_index=face_index)
        return self._pipeline.prepare(
            image,
            waveform,
            options,
            references=references,
            driving=source,
            on_stage=on_stage,
        )


def render_options(request: RenderRequest) -> RenderOptions:
    """The pipeline's options: the caller's, name by name, and what they leave to the kind of video.

    A photograph moves and blinks by itself, unless a driver moves it; a video moves anyway. What the
    intake has carried out (where the sound begins, how long it is silent) is not among them.
    """
    from model.pipelines.options import RenderOptions

    chosen = request.options.model_dump(exclude=set(INTAKE_OPTIONS | WRITER_OPTIONS))
    if request.video is not None:
        chosen |= {"motion": None, "blink": None, "loop": False, "dubbed": request.dubbed}
    elif request.driving is None and request.options.motion is None:
        chosen["motion"] = "natural"
    return RenderOptions(**chosen)


def open_output(
    request: RenderRequest, width: int, height: int, fps: float, num_frames: int
) -> VideoWriter:
    """A writer of the finished frames of a request; see `open_video`."""
    from model.media.video_writer import LiveFilm

    watcher = request.watcher
    live = None if watcher is None else LiveFilm(watcher.take, num_frames, watcher.is_vital)
    where = (request.output, request.sound, request.labelling, width, height, fps)
    is_edited = request.video is not None
    return open_video(*where, is_edited=is_edited, watermark=request.watermark, live=live)


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The picture `(H, W, 3)`, uint8 RGB. The intake made the file, so nothing is checked again."""
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)
