"""What an evaluation measures, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from model.data.layouts import Layout
from model.media.audio import FPS

Protocol = Literal["reenactment", "dubbing", "references", "portraits", "motion", "steadiness"]
PROTOCOLS: Final[tuple[Protocol, ...]] = (
    "reenactment", "dubbing", "references", "portraits", "motion", "steadiness",
)  # fmt: skip
USUAL_PROTOCOLS: Final[tuple[Protocol, ...]] = PROTOCOLS[:4]
"""What is measured unless told otherwise."""


@dataclass(frozen=True)
class Checkpoint:
    """One `--weights`, None = the one that ships.

    The name is the title of its rows; checkpoints of one name are runs of one system.
    """

    name: str
    folder: Path | None


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, on what: the options of `talkface evaluate`, whose help says more.

    Attributes:
        clips: Folder of real videos with sound, in `layout`, or None.
        portraits: Folder of photographs; None = the example portrait.
        speech: Folder of voices; None = the example speech.
        limit: Clips and photographs at most; `motion` has its own.
        landmark_figures: `figures.json` of `model.evaluation.landmark_figures`, or None.
        crop_px: Side of the crops in which videos are compared; None = the face's own size.
        preset: A key of `PRESETS`.
        seeds: Of the noise; every checkpoint is measured with each.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoints: tuple[Checkpoint, ...]
    output: Path
    clips: Path | None = None
    layout: Layout = "grid"
    every_clip: bool = False
    portraits: Path | None = None
    speech: Path | None = None
    limit: int = 8
    motion_limit: int = 50
    stride: int = 3
    crop_px: int | None = None
    landmark_figures: Path | None = None
    seconds: float = 5.0
    preset: str = "balanced"
    seeds: tuple[int, ...] = (0,)
    protocols: tuple[Protocol, ...] = USUAL_PROTOCOLS
    device: str = "auto"

    @property
    def max_frames(self) -> int:
        """`seconds` in video frames."""
        return max(1, round(self.seconds * FPS))
