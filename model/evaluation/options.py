"""What an evaluation measures, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from model.data.layouts import Layout
from model.media.audio import FPS

Protocol = Literal[
    "reenactment", "dubbing", "references", "portraits", "motion", "steadiness",
    "heads", "blinks", "lively",
]  # fmt: skip
PROTOCOLS: Final[tuple[Protocol, ...]] = (
    "reenactment", "dubbing", "references", "portraits", "motion", "steadiness",
    "heads", "blinks", "lively",
)  # fmt: skip
ALIVE: Final[tuple[Protocol, ...]] = PROTOCOLS[6:]
"""Heads that move and eyes that blink: what `source` is for."""
USUAL_PROTOCOLS: Final[tuple[Protocol, ...]] = PROTOCOLS[:4]
"""What is measured unless told otherwise."""


Half = Literal["choosing", "final"]
"""Of the people: those on whom choices are made, and those who are looked at once, at the end."""
HALVES: Final[tuple[Half, ...]] = ("choosing", "final")


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
        source: Folder of the data sets, or None.
        half: Of the people in it.
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
    source: Path | None = None
    half: Half = "final"
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
