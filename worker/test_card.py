"""A renderer without a model: real files and a real encoder, for tests of everything around it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from worker.contract.messages import Stage
from worker.contract.results import RendererInfo, VideoUse
from worker.progress import ProgressSink
from worker.render_request import RenderRequest, RenderResult, draw_video, open_output, read_rgb
from worker.stage_clock import StageClock
from worker.team import OnFrames, VideoSize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TestCardRenderer:
    """Draws a bar that sweeps over the pictures: real files, real encoder, no model.

    A driving video and references change nothing that is seen.

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
        from model.media.frames import VideoFrames, read_in_order, shown_numbers
        from worker.contract.intake.sounds import flac_stream

        clock = StageClock()
        fps = request.options.fps
        total = math.ceil(fps * flac_stream(request.speech).seconds)
        video: VideoUse | None = None
        moving = request.video or request.driving
        if moving is not None:
            source = VideoFrames(moving, fps)
            video = VideoUse(
                source_frames=source.num_frames, held_frames=(), looped=total > source.num_frames
            )
        if request.image is None:
            numbers = shown_numbers(total, source.num_frames, request.options.video_shorter)
            width, height = source.width, source.height
        else:
            picture = read_rgb(request.image)
            height, width = int(picture.shape[0]), int(picture.shape[1])

        def pictures(start: int, stop: int) -> Iterator[NDArray[np.uint8]]:
            if request.image is None:
                return iter(read_in_order(source, numbers[start:stop].tolist()))
            return (picture.copy() for _ in range(start, stop))

        clock.enter(Stage.GENERATING)
        progress.stage(Stage.GENERATING)
        progress.frames(0, total)

        size = VideoSize(total, fps, self.batch_size, self.info)

        def draw(into: RenderRequest, start: int, stop: int, on_frames: OnFrames) -> None:
            with open_output(into, width, height, size, first_frame=start) as writer:
                for index, frame in enumerate(pictures(start, stop), start):
                    left = index * 8 % width
                    frame[:, left : left + 8] = 255 - frame[:, left : left + 8]
                    time.sleep(self._frame_s)
                    with clock.aside(Stage.ENCODING):
                        writer.write(frame)
                    if (index + 1) % self.batch_size == 0 or index + 1 == stop:
                        on_frames(index % self.batch_size + 1)
                if into is request:
                    clock.enter(Stage.ENCODING)
                    progress.stage(Stage.ENCODING)

        draw_video(request, progress, size, draw)
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
            video=video,
        )
