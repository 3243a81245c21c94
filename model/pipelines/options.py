"""What a caller may choose for one video."""

from __future__ import annotations

from dataclasses import dataclass

from model.pipelines.presets import PRESETS, Init, Region


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
        lip_strength: Scale of the lip motion.
        init: Start of the sampler, or None for the preset's.
        restore_detail: Whether the photograph's detail is added, or None for the preset's choice.
        region: What the networks draw.

    Raises:
        ValueError: There is no such preset.
    """

    preset: str = "balanced"
    seed: int = 0
    num_inference_steps: int | None = None
    fps: float | None = None
    face_index: int = 0
    lip_strength: float = 1.0
    init: Init | None = None
    restore_detail: bool | None = None
    region: Region = "mouth"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; expected one of {', '.join(PRESETS)}")
