"""Renderers: the one place that drives the model, for the queue and for `talkface generate` alike.

Importing this module costs nothing; torch and numpy are imported when a renderer is loaded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from worker.contract.messages import RendererInfo, SamplingOptions, Stage
from worker.progress import ProgressSink
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from model.pipelines.talking_face import TalkingFacePipeline


@dataclass(frozen=True)
class RenderRequest:
    """One video to draw. All files are the intake's: normalised and trusted.

    Args:
        image: `input.png`, RGB, upright, even sides.
        speech: `speech.flac`, 16 kHz mono.
        sound: The upload's own track at 48 kHz for muxing, or None for a silent video.
        output: Where the MP4 goes; must not exist.
        options: The caller's choices.
    """

    image: Path
    speech: Path
    sound: Path | None
    output: Path
    options: SamplingOptions


@dataclass(frozen=True)
class RenderResult:
    """What was drawn. `timings_s` has seconds per stage, `seconds` is the video's length."""

    num_frames: int
    fps: float
    width: int
    height: int
    seconds: float
    timings_s: dict[str, float]
    info: RendererInfo
    face_bbox_xyxy: tuple[float, float, float, float] | None


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


@dataclass
class StageClock:
    """Adds up the seconds of each stage; stages may interleave, as drawing and encoding do."""

    timings_s: dict[str, float] = field(default_factory=dict)
    _stage: Stage | None = None
    _since: float = 0.0

    def enter(self, stage: Stage | None) -> None:
        """End the current stage and begin the next, None = none."""
        now = time.perf_counter()
        if self._stage is not None:
            elapsed = now - self._since
            self.timings_s[self._stage] = self.timings_s.get(self._stage, 0.0) + elapsed
        self._stage, self._since = stage, now

    @contextmanager
    def aside(self, stage: Stage) -> Iterator[None]:
        """Count what happens inside as `stage`, then go on with the current one."""
        outer = self._stage
        self.enter(stage)
        try:
            yield
        finally:
            self.enter(outer)

    def rounded(self) -> dict[str, float]:
        """The sums, in milliseconds' precision."""
        return {name: round(seconds, 3) for name, seconds in self.timings_s.items()}


class PipelineRenderer:
    """Draws with the model."""

    def __init__(self, pipeline: TalkingFacePipeline) -> None:
        self._pipeline = pipeline

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
        return cls(pipeline)

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
        from model.media.audio import load_waveform
        from model.media.video import VideoWriter

        clock = StageClock()

        def begin(stage: str) -> None:
            clock.enter(Stage(stage))
            progress.stage(Stage(stage))

        options = request.options
        plan = self._pipeline.prepare(
            _read_rgb(request.image),
            load_waveform(request.speech),
            preset=options.preset,
            seed=options.seed,
            num_inference_steps=options.num_inference_steps,
            fps=options.fps,
            face_index=options.face_index,
            lip_strength=options.lip_strength,
            on_stage=begin,
        )
        begin(Stage.GENERATING)
        progress.frames(0, plan.num_frames)
        done = 0
        with VideoWriter(
            request.output, width=plan.width, height=plan.height, fps=plan.fps, sound=request.sound
        ) as writer:
            for frames in self._pipeline.render(plan):
                with clock.aside(Stage.ENCODING):
                    for frame in frames:
                        writer.write(frame)
                done += len(frames)
                progress.frames(done, plan.num_frames)
            begin(Stage.ENCODING)
        clock.enter(None)
        x0, y0, x1, y1 = (float(edge) for edge in plan.face_bbox_xyxy)
        return RenderResult(
            num_frames=plan.num_frames,
            fps=plan.fps,
            width=plan.width,
            height=plan.height,
            seconds=plan.num_frames / plan.fps,
            timings_s=clock.rounded(),
            info=self.info,
            face_bbox_xyxy=(x0, y0, x1, y1),
        )


class TestCardRenderer:
    """Draws a bar that sweeps over the picture: real files, real encoder, no model.

    Args:
        frame_ms: What one frame costs, in milliseconds, to imitate a render.
    """

    # pytest collects classes by this prefix.
    __test__ = False
    batch_size = 8

    def __init__(self, frame_ms: float = 0.0) -> None:
        self._frame_s = frame_ms / 1000.0
        self.info = RendererInfo(
            model_name="test-card",
            weights_sha256=None,
            attention_backend=None,
            dtype="uint8",
            device="cpu",
        )

    def warm_up(self) -> None:
        """Nothing to warm."""

    def render(self, request: RenderRequest, progress: ProgressSink) -> RenderResult:
        """See `Renderer.render`."""
        from model.media.video import VideoWriter
        from worker.contract.intake import flac_stream

        clock = StageClock()
        picture = _read_rgb(request.image)
        height, width = int(picture.shape[0]), int(picture.shape[1])
        fps = request.options.fps
        total = math.ceil(fps * flac_stream(request.speech).seconds)
        clock.enter(Stage.GENERATING)
        progress.stage(Stage.GENERATING)
        with VideoWriter(
            request.output, width=width, height=height, fps=fps, sound=request.sound
        ) as writer:
            for index in range(total):
                if index % self.batch_size == 0:
                    progress.frames(index, total)
                frame = picture.copy()
                left = index * 8 % width
                frame[:, left : left + 8] = 255 - frame[:, left : left + 8]
                time.sleep(self._frame_s)
                with clock.aside(Stage.ENCODING):
                    writer.write(frame)
            progress.frames(total, total)
            clock.enter(Stage.ENCODING)
            progress.stage(Stage.ENCODING)
        clock.enter(None)
        return RenderResult(
            num_frames=total,
            fps=fps,
            width=width,
            height=height,
            seconds=total / fps,
            timings_s=clock.rounded(),
            info=self.info,
            face_bbox_xyxy=None,
        )


def load_renderer(settings: WorkerSettings) -> Renderer:
    """The renderer that the settings name, loaded and not yet warm.

    Raises:
        model.errors.CheckpointError: The weights are absent, incomplete or altered.
    """
    if settings.renderer == "test-card":
        return TestCardRenderer(settings.test_card_frame_ms)
    return PipelineRenderer.load(settings)


def _read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """The picture `(H, W, 3)`, uint8 RGB. The intake made the file, so nothing is checked again."""
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)
