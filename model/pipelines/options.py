"""What a caller may choose for one video."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.media.frames import Ending
from model.pipelines.presets import MOST_STRENGTH, PRESETS, STRENGTHS, Frame, Init, Region


@dataclass(frozen=True)
class RenderOptions:
    """The choices for one video, whatever is animated.

    Only the preset is checked here; bounds on the numbers belong to whoever takes them from outside
    (`worker.contract.messages.SamplingOptions`).

    Attributes:
        preset: A key of `PRESETS`.
        seed: Of the noise; 0 to 2**32 - 1.
        num_inference_steps: Denoising steps a frame, or None for the preset's. A preset without
            diffusion takes none in any case.
        fps: Frames per second of the video, or None: 25 for a photograph, the footage's for footage.
        face_index: Which face speaks, 0 = the largest; of footage, in the first frame that shows any.
        check_face: Whether a face that looks away, or whose mouth is hidden, is refused.
        lip_strength: Scale of the lip motion.
        init: Start of the sampler, or None for the preset's.
        restore_detail: Whether the photograph's detail is added, or None for the preset's choice.
        region: What the networks draw.
        motion: How much the head of a photograph moves by itself: a key of `STRENGTHS` or a number,
            1 = natural; None = not at all. Never with a driver.
        blink: Whether a photograph blinks: False = never, not even as its driver does; None = as
            its driver does, if it has one.
        loop: Whether the last frame of a photograph is its first one.
        frame: What is shown of picture or footage: "source" = all, or a key of `framing.SHAPES`.
        max_side: Longest side of what is framed, pixels; None = as large as it is cut.
        video_shorter: What footage does that is shorter than the sound.
        dubbed: Seconds of footage whose mouth is drawn; the rest are its own frames. None = all.

    Raises:
        ValueError: There is no such preset, or no such motion.
    """

    preset: str = "balanced"
    seed: int = 0
    num_inference_steps: int | None = None
    fps: float | None = None
    face_index: int = 0
    check_face: bool = True
    lip_strength: float = 1.0
    init: Init | None = None
    restore_detail: bool | None = None
    region: Region = "mouth"
    motion: str | float | None = None
    blink: bool | None = None
    loop: bool = False
    frame: Frame = "source"
    max_side: int | None = None
    video_shorter: Ending = "bounce"
    dubbed: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; expected one of {', '.join(PRESETS)}")
        if not 0.0 <= self.motion_strength <= MOST_STRENGTH:
            raise ValueError(
                f"motion is {self.motion!r}; expected one of {', '.join(STRENGTHS)}, or a number "
                f"from 0 to {MOST_STRENGTH}"
            )

    @property
    def motion_strength(self) -> float:
        """Of a photograph's own motion: 0 = still, 1 = natural; NaN for what is no motion."""
        if self.motion is None or isinstance(self.motion, str):
            return STRENGTHS.get(self.motion or "still", math.nan)
        return float(self.motion)
