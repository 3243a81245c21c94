"""The renderer: the one place that drives the model, for the queue and for `talkface generate` alike.

Importing this module costs nothing; torch and numpy are imported when a renderer is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import UnsupportedMediaError
from worker.contract.logs import get_logger
from worker.contract.messages import INTAKE_OPTIONS, WRITER_OPTIONS, Stage
from worker.contract.results import RendererInfo, VideoUse
from worker.progress import ProgressSink
from worker.render_request import (
    RenderRequest,
    RenderResult,
    draw_video,
    open_output,
    read_rgb,
)
from worker.settings import WorkerSettings
from worker.sound_offset import put_sound_in_place
from worker.stage_clock import StageClock
from worker.sync_scoring import SyncScorer
from worker.team import OnFrames, VideoSize

if TYPE_CHECKING:
    from model.media.encoders import VideoEncoder
    from model.media.frames import FrameSource
    from model.pipelines.options import RenderOptions
    from model.pipelines.outputs import RenderPlan
    from model.pipelines.talking_face import OnStage, TalkingFacePipeline

_log = get_logger("worker")


class PipelineRenderer:
    """Draws with the model."""

    def __init__(
        self,
        pipeline: TalkingFacePipeline,
        scorer: SyncScorer | None = None,
        encoder: VideoEncoder = "libx264",
    ) -> None:
        self._pipeline = pipeline
        self._scorer = scorer
        self._encoder = encoder

    @classmethod
    def load(cls, settings: WorkerSettings) -> PipelineRenderer:
        """Load the checkpoint that the settings name.

        Raises:
            model.errors.CheckpointError: It is absent, incomplete or altered.
            model.errors.MissingDependencyError: The detector's package or weights are absent.
            model.errors.EncodingError: The encoder that the settings name does not work here.
        """
        from model.face.detectors import load_detector
        from model.lean_imports import lean_imports
        from model.media.encoders import choose_encoder

        encoder = choose_encoder(settings.video_encoder)
        with lean_imports("diffusers"):
            from model.pipelines.talking_face import load_pipeline

            pipeline = load_pipeline(
                settings.weights_dir, device=settings.device, dtype=settings.dtype
            )
        pipeline.batch_size = settings.batch_size
        pipeline.detector = load_detector(
            settings.detector, weights_dir=settings.face_alignment_dir, device=str(pipeline.device)
        )
        return cls(pipeline, SyncScorer.load(), encoder)

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
        from model.heap import give_back
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
        watch = None
        # A face that listens says nothing.
        if self._scorer is not None and request.options.seconds is None:
            watch = self._scorer.begin(plan, request.speech)
        # What looked at the whole recording is done.
        give_back()
        size = VideoSize(plan.num_frames, plan.fps, plan.batch_size, self.info)

        def draw(into: RenderRequest, start: int, stop: int, on_frames: OnFrames) -> None:
            where = (plan.width, plan.height, size)
            with open_output(into, *where, first_frame=start, encoder=self._encoder) as writer:
                done = start
                for frames in self._pipeline.render(plan, start, stop):
                    with clock.aside(Stage.ENCODING):
                        # What others draw is not seen here, so a divided video has no score.
                        if watch is not None and into is request:
                            watch.watch(done, frames)
                        for frame in frames:
                            writer.write(frame)
                    done += len(frames)
                    on_frames(len(frames))
                if into is request:
                    begin(Stage.ENCODING)

        draw_video(request, progress, size, draw)
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
