"""Systems on single pictures: unseen photographs, silence, and what leaks from the reference.

portraits   an unseen person's photograph says an unseen voice; the drawn mouth is found again
            and compared with the landmarks that should have been drawn
silence     digital silence over a reference with a shut, and one with an open mouth
leak        the same words over both: the mouth must come from the sound
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames, find_landmarks
from model.data.sound import fit_sound
from model.evaluation.metrics.landmarks import mouth_figures, same_mouth, swap_figures
from model.evaluation.metrics.pictures import FaceWindow, mouth_sharpness
from model.evaluation.observation import (
    Judges,
    Points,
    lay_on,
    mean_figures,
    sheet_tiles,
    sync_figures,
)
from model.evaluation.protocols.video import STATIC, System
from model.face.alignment import invert_affine, warp_points
from model.face.landmarks import CONTENT, mouth_opening, mouth_width
from model.media.audio import FPS, SAMPLES_PER_FRAME
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from model.pipelines.outputs import RenderPlan

Frames = NDArray[np.uint8]

_SILENT_FRAMES: Final = FPS
_LEAK_FRAMES: Final = 2 * FPS


@dataclass(frozen=True, eq=False)
class _Still:
    """A drawn still picture: plan, frames `(T, H, W, 3)` and the faces found `(T, 68, 2)`, pixels, or nan."""

    plan: RenderPlan
    frames: Frames
    landmarks: Points

    @property
    def opening(self) -> NDArray[np.float32]:
        """Drawn mouth opening `(T,)`."""
        return mouth_opening(self.landmarks)


def _animate(
    system: System, judges: Judges, image: Frames, waveform: NDArray[np.float32]
) -> _Still:
    plan = system.pipeline.prepare(image, waveform, system.options)
    frames = np.stack(list(system.draw(plan)))
    meant = warp_points(invert_affine(plan.affine(0)), plan.target_landmarks)
    return _Still(plan, frames, find_landmarks(judges.detector, frames, meant))


@dataclass
class ReferenceTests:
    """Silence and leak over shut and open references from real clips."""

    judges: Judges
    _quiet: dict[str, dict[str, list[NDArray[np.float32]]]] = field(default_factory=dict)
    _pairs: dict[str, list[tuple[Points, Points, float]]] = field(default_factory=dict)

    def add(self, frames: ClipFrames, clip: Clip, system: System) -> None:
        """Measure one clip's most shut and most open face."""
        references = {"shut": np.nanargmin(clip.opening), "open": np.nanargmax(clip.opening)}
        silence = np.zeros(_SILENT_FRAMES * SAMPLES_PER_FRAME, np.float32)
        words = fit_sound(clip.waveform, min(_LEAK_FRAMES, clip.num_frames))
        quiet = self._quiet.setdefault(system.name, {"shut": [], "open": []})
        spoken = {}
        for kind, index in references.items():
            image = frames.frames[index]
            quiet[kind].append(_animate(system, self.judges, image, silence).opening)
            spoken[kind] = _animate(system, self.judges, image, words)
        seen = np.isfinite([one.opening for one in spoken.values()]).all(axis=0)
        if seen.any():
            # Two frames of one video: the head has moved between them.
            first, second = spoken["shut"].landmarks[seen], spoken["open"].landmarks[seen]
            second = np.stack([lay_on(f, onto) for f, onto in zip(second, first, strict=True)])
            content = list(CONTENT)
            pair = (first[:, content], second[:, content], float(np.median(mouth_width(first))))
            self._pairs.setdefault(system.name, []).append(pair)

    def figures(self) -> dict[str, dict[str, float]]:
        """System to figures; gaps and differences as shares of the mouth's width."""
        table: dict[str, dict[str, float]] = {}
        for name, quiet in self._quiet.items():
            row = table[name] = {}
            for kind, openings in quiet.items():
                seen = [o[np.isfinite(o)] for o in openings if np.isfinite(o).any()]
                if seen:
                    row[f"silence_{kind}_mean"] = float(np.concatenate(seen).mean())
                    row[f"silence_{kind}_std"] = float(np.mean([o.std() for o in seen]))
            if name in self._pairs:
                first, second, widths = zip(*self._pairs[name], strict=True)
                row["leak_r"], row["leak_difference"] = same_mouth(first, second, widths)
        return table


@dataclass
class Photographs:
    """Photographs that systems have moved: figures by system and picture.

    `sheets` are mouth and chin of the photograph and of five drawn frames, by system and picture.
    """

    judges: Judges
    per_picture: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    sheets: dict[str, Frames] = field(default_factory=dict)
    drawn: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    meant: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def keep(self, system: str, name: str, figures: dict[str, float]) -> None:
        """Figures of one picture."""
        self.per_picture.setdefault(system, {})[name] = figures

    def keep_openings(
        self, system: str, drawn: NDArray[np.float32], meant: NDArray[np.float32]
    ) -> dict[str, float]:
        """Drawn and wanted opening of one picture `(T,)`; returns their figures."""
        self.drawn.setdefault(system, []).append(drawn)
        self.meant.setdefault(system, []).append(meant)
        found = float(np.isfinite(drawn).mean())
        return {"faces_found": found, **mouth_figures([drawn], [meant])}


@dataclass
class Portraits(Photographs):
    """Unseen photographs with unseen voices."""

    def add(
        self,
        name: str,
        image: Frames,
        voice: NDArray[np.float32],
        other: NDArray[np.float32] | None,
        system: System,
    ) -> None:
        """Measure one photograph `(H, W, 3)`, uint8 RGB, even sides.

        It says `voice`, 16 kHz, and in the swap test the `other` one.

        Raises:
            InputError: The photograph cannot be animated.
        """
        # 1. what it says
        still = _animate(system, self.judges, image, voice)
        plan = still.plan
        meant = mouth_opening(plan.target_landmarks)
        heard = sync_figures(self.judges, still.frames, still.landmarks, voice)
        own = warp_points(invert_affine(plan.affine(0)), plan.reference_landmarks)
        sharpest = max(mouth_sharpness(image, own), 1e-9)
        sharp = [mouth_sharpness(frame, own) / sharpest for frame in still.frames]
        outside = ~system.pipeline.soft_mask(plan)
        equal = [bool((frame[outside] == image[outside]).all()) for frame in still.frames]
        row = {**heard, "sharpness": float(np.mean(sharp)), "outside_equal": float(np.mean(equal))}
        row["outside_psnr"] = encoded_psnr(still, image, outside)
        if self.judges.identity is not None:
            faces = self.judges.identity([image, *still.frames], np.stack([own] * (1 + len(meant))))
            row["csim"] = float((faces[1:] @ faces[0]).mean())

        # 2. what it does in silence, and when another voice speaks
        silence = np.zeros(_SILENT_FRAMES * SAMPLES_PER_FRAME, np.float32)
        quiet = _animate(system, self.judges, image, silence).opening
        if np.isfinite(quiet).any():
            row["silence_mean"] = float(np.nanmean(quiet))
            row["silence_std"] = float(np.nanstd(quiet))
        if other is not None:
            count = min(len(voice), len(other))
            swapped = _animate(system, self.judges, image, other[:count])
            row |= swap_figures(still.opening, swapped.opening)
        row = {**self.keep_openings(system.name, still.opening, meant), **row}
        self.keep(system.name, name, row)

        # 3. the same photograph, frozen: what a face that does not speak scores
        frozen = np.repeat(own[None], len(meant), axis=0)
        scores = sync_figures(self.judges, np.stack([image] * len(meant)), frozen, voice)
        self.keep(STATIC, name, scores)
        window = FaceWindow(np.stack([plan.affine(0)] * len(meant)), frozen)
        crops = np.stack(window.crops(still.frames))
        self.sheets[f"{system.name}: {name}"] = sheet_tiles(crops, meant, window.crop(image, 0))

    def figures(self) -> dict[str, dict[str, float]]:
        """System to figures over all photographs; the frozen photograph is a system too."""
        return {
            name: mean_figures(list(pictures.values()))
            | (mouth_figures(self.drawn[name], self.meant[name]) if name in self.drawn else {})
            for name, pictures in self.per_picture.items()
        }


def encoded_psnr(still: _Still, image: Frames, outside: NDArray[np.bool_]) -> float:
    """How much H.264 alone changes outside the mask, mean PSNR over frames in dB."""
    plan = still.plan
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.mp4"
        with VideoWriter(path, width=plan.width, height=plan.height, fps=plan.fps) as writer:
            for frame in still.frames:
                writer.write(frame)
        errors = [
            float(((decoded.astype(np.float32) - image) ** 2)[outside].mean())
            for decoded in read_frames(path)
        ]
    return float(np.mean(10 * np.log10(255**2 / np.maximum(errors, 1e-9))))
