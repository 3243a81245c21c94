"""The MP4 that a render goes into: with its label, and with tags that say how it was made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.contract.messages import LabelLanguage, SamplingOptions
from worker.contract.results import LabelName
from worker.watermark import Watermark

if TYPE_CHECKING:
    from model.media.encoders import VideoEncoder
    from model.media.frame_marks import FrameMark
    from model.media.video_writer import LiveOutput, VideoWriter


@dataclass(frozen=True)
class Labelling:
    """Which label a video has, and in which language."""

    name: LabelName = "off"
    language: LabelLanguage = "en"

    def chosen(self, options: SamplingOptions) -> Labelling:
        """What a caller chose, and this where they chose nothing."""
        return Labelling(options.label or self.name, options.label_language or self.language)


NO_LABEL: Final = Labelling()


def open_video(
    path: Path,
    sound: Path | None,
    labelling: Labelling,
    width: int,
    height: int,
    fps: float,
    *,
    is_edited: bool,
    watermark: Watermark | None = None,
    live: LiveOutput | None = None,
    first_frame: int = 0,
    encoder: VideoEncoder = "libx264",
    segment_frames: int | None = None,
) -> VideoWriter:
    """A writer of finished frames: first the watermark, which changes pixels everywhere, then the label.

    Args:
        path: The MP4.
        sound: What is muxed, or None.
        labelling: The visible label.
        width: In pixels, even.
        height: In pixels, even.
        fps: Frames per second.
        is_edited: It is a film that was changed, not a picture that was animated.
        watermark: What is put into the pictures, or None.
        live: Who watches it while it is drawn; sees the label, too.
        first_frame: Number of the first frame in the whole film, of which this is a part.
        encoder: What makes H.264 of the frames.
        segment_frames: See `VideoWriter`.

    Raises:
        model.errors.ModelError: See `VideoWriter` and `Label`.
    """
    from model.media.label import INTRO_S, Label
    from model.media.video_writer import VideoWriter
    from model.watermark.embedder import WatermarkEmbedder

    marks: list[FrameMark] = []
    if watermark is not None:
        marks.append(
            WatermarkEmbedder(watermark.key, watermark.payload, width=width, height=height)
        )
    if labelling.name != "off":
        num_frames = math.ceil(INTRO_S * fps) if labelling.name == "intro" else None
        marks.append(
            Label(
                width,
                height,
                language=labelling.language,
                is_edited=is_edited,
                num_frames=num_frames,
            )
        )
    return VideoWriter(
        path,
        width=width,
        height=height,
        fps=fps,
        sound=sound,
        marks=marks,
        tags=video_tags(is_edited=is_edited),
        live=live,
        first_frame=first_frame,
        encoder=encoder,
        segment_frames=segment_frames,
    )


def video_tags(*, is_edited: bool) -> dict[str, str]:
    """What the file says of itself in words."""
    how = "altered" if is_edited else "generated"
    return {
        "title": f"Talking face, {how} with AI",
        "comment": f"Synthetic media: {how} with AI by talkface {version('talkface')}",
    }
