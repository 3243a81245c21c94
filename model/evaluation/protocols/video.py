"""Systems in real video: self-reenactment and dubbing.

    self-reenactment   own sound; the mouth is drawn into the first frame alone, moved to every pose
                       "predicted": landmarks from the sound   "detected": from the real frames
    dubbing            the same, with another clip's sound

The real video and its frozen first frame are measured beside them: what is not better than a frozen
face has not learnt to speak.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames, hold_gaps
from model.data.sound import fit_sound
from model.evaluation.metrics.landmarks import mouth_figures, swap_figures
from model.evaluation.observation import (
    Judges,
    Observation,
    Observer,
    fid,
    mean_figures,
    row_figures,
)
from model.face.alignment import compose_affines, invert_affine, pixel_affine, warp_points
from model.face.landmarks import CONTENT
from model.media.audio import SAMPLES_PER_FRAME, log_mel
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline

REAL: Final = "real video"
STATIC: Final = "static image"
PREDICTED: Final = "predicted landmarks"
DETECTED: Final = "detected landmarks"
_DUBBED_SCORES: Final = ("lse_c", "lse_d", "syncnet_lse_c", "syncnet_lse_d")


@dataclass(frozen=True, eq=False)
class System:
    """A checkpoint under test, with a preset and a seed of the noise.

    The name is what its rows are called; runs of one name are averaged. `weights_bytes` is the size of
    the checkpoint's files, None where it is not known.
    """

    name: str
    pipeline: TalkingFacePipeline
    preset: str
    seed: int
    weights_bytes: int | None = None

    @property
    def options(self) -> RenderOptions:
        """How it draws."""
        return RenderOptions(preset=self.preset, seed=self.seed)

    def plan(self, frames: ClipFrames, waveform: NDArray[np.float32], reference: int) -> RenderPlan:
        """Draw a mouth for `waveform` into `frames`, like the mouth of frame `reference`."""
        return self.pipeline.prepare_video(
            frames, waveform, self.options, references=(frames.frames[reference],)
        )

    def draw(self, plan: RenderPlan) -> Iterator[NDArray[np.uint8]]:
        """Frames `(H, W, 3)`, one at a time."""
        for batch in self.pipeline.render(plan):
            yield from batch


def frozen(frames: ClipFrames, index: int) -> NDArray[np.uint8]:
    """Frame `index` for as long as the clip lasts, `(T, H, W, 3)`."""
    return np.broadcast_to(frames.frames[index], frames.frames.shape)


def posed(frames: ClipFrames, clip: Clip, index: int) -> ClipFrames:
    """Frame `index`, moved by one similarity to the pose of every frame of its clip.

    What is drawn into it must come from that one picture. The clip's own frames would already show the
    mouth that is asked for, and a copy of them would pass.
    """
    height, width = frames.frames.shape[1:3]
    moved = []
    for affine in clip.affines:
        way = pixel_affine(compose_affines(invert_affine(affine), clip.affines[index]), 1)
        moved.append(
            cv2.warpAffine(
                frames.frames[index],
                way,
                (width, height),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
    return ClipFrames(np.asarray(np.stack(moved), np.uint8))


def with_landmarks(plan: RenderPlan, landmarks: NDArray[np.float32]) -> RenderPlan:
    """`plan` of a video with jaw and lips of the real faces `(T, 68, 2)`, pixels; T at least the plan's."""
    targets = plan.target_landmarks.copy()
    for index, points in enumerate(landmarks[: plan.num_frames]):
        real = warp_points(plan.affine(index), points)
        targets[index, list(CONTENT)] = real[list(CONTENT)]
    return dataclasses.replace(plan, target_landmarks=targets)


@dataclass
class Reenactment:
    """Observations of self-reenactment: by the rows' titles, one of each of the `clips` so far."""

    clips: list[Clip] = field(default_factory=list)
    rows: dict[str, list[Observation]] = field(default_factory=dict)

    def add(self, frames: ClipFrames, observer: Observer, systems: Mapping[str, System]) -> None:
        """Measure one clip: its frames, who judges them, and two rows for each system.

        Raises:
            InputError: The clip cannot be used; no row has changed.
        """
        clip = observer.clip
        still = observer.observe(frozen(frames, clip.reference))
        rows = {REAL: observer.observe_real(), STATIC: still}
        source = posed(frames, clip, clip.reference)
        for name, system in systems.items():
            predicted = system.plan(source, clip.waveform, clip.reference)
            detected = with_landmarks(predicted, clip.landmarks)
            for variant, plan in ((PREDICTED, predicted), (DETECTED, detected)):
                rows[f"{name}, {variant}"] = observer.observe(system.draw(plan))
        # All rows or none: a clip that some system cannot use must not shift the others' lists.
        self.clips.append(clip)
        for title, seen in rows.items():
            self.rows.setdefault(title, []).append(seen)

    def figures(self) -> dict[str, dict[str, float]]:
        """Row title to figures over all clips."""
        table = {}
        for title, seen in self.rows.items():
            table[title] = row_figures(self.clips, seen)
            distance = fid(seen, self.rows[REAL])
            if distance is not None and title != REAL:
                table[title]["fid"] = distance
        return table

    def per_clip(self) -> dict[str, dict[str, dict[str, float]]]:
        """Row title to clip name to that clip's figures."""
        each = {title: zip(self.clips, seen, strict=True) for title, seen in self.rows.items()}
        return {
            title: {clip.name: row_figures([clip], [one]) for clip, one in pairs}
            for title, pairs in each.items()
        }


@dataclass(frozen=True)
class _Dub:
    """One pair of a video and another clip's sound: figures, drawn and wanted opening `(T,)`."""

    pair: str
    figures: dict[str, float]
    drawn: NDArray[np.float32]
    wanted: NDArray[np.float32]


@dataclass
class Dubbing:
    """Pairs of a real video and another clip's sound: by the rows' titles, one entry a pair."""

    judges: Judges
    rows: dict[str, list[_Dub]] = field(default_factory=dict)

    def add(
        self,
        frames: ClipFrames,
        observer: Observer,
        other: Clip,
        systems: Mapping[str, System],
        own: Mapping[str, Observation],
    ) -> None:
        """Measure one pair.

        Args:
            frames: The video.
            observer: Judges it.
            other: Whose sound is put over it, and whose mouth the drawn one is compared with.
            systems: By name.
            own: Each system's frames with the video's own sound, for comparison.
        Raises:
            InputError: The clip cannot be used; no row has changed.
        """
        clip = observer.clip
        sound = fit_sound(other.waveform, clip.num_frames)
        wanted = np.full(clip.num_frames, np.nan, np.float32)
        wanted[: other.num_frames] = other.opening[: clip.num_frames]
        pair = f"{clip.name} says {other.name}"

        def judge(seen: Observation, **more: float) -> _Dub:
            scores = {key: seen.scores[key] for key in _DUBBED_SCORES if key in seen.scores}
            figures = scores | more | self._preference(clip, seen, sound)
            return _Dub(pair, figures, seen.opening, wanted[: len(seen.opening)])

        still = observer.observe(frozen(frames, clip.reference), sound)
        really = swap_figures(clip.opening, wanted)
        rows = {REAL: judge(observer.observe_real(sound), **really), STATIC: judge(still)}
        for name, system in systems.items():
            plan = system.plan(frames, sound, clip.reference)
            drawn = np.stack(list(system.draw(plan)))
            seen = observer.observe(drawn, sound)
            more = {"outside_equal": share_equal_outside(system, plan, drawn, frames.frames)}
            if name in own:
                more |= swap_figures(own[name].opening, seen.opening)
            rows[name] = judge(seen, **more)
        for title, entry in rows.items():
            self.rows.setdefault(title, []).append(entry)

    def _preference(
        self, clip: Clip, seen: Observation, sound: NDArray[np.float32]
    ) -> dict[str, float]:
        """Which sound the sync network hears in a mouth: the new one, or the video's own."""
        held = hold_gaps(seen.landmarks)
        if self.judges.sync is None or held is None:
            return {}
        samples = SAMPLES_PER_FRAME * len(held)
        new, old = (
            self.judges.sync.matching(log_mel(waveform[:samples]), held)
            for waveform in (sound, clip.waveform)
        )
        return {"sync_matching": new, "sync_matching_old": old, "prefers_new": float(new > old)}

    def figures(self) -> dict[str, dict[str, float]]:
        """Row title to figures over all pairs."""
        table = {}
        for title, dubs in self.rows.items():
            table[title] = {"pairs": float(len(dubs)), **mean_figures([d.figures for d in dubs])}
            mouth = mouth_figures([d.drawn for d in dubs], [d.wanted for d in dubs])
            table[title] |= {key: mouth[key] for key in ("opening_r", "best_lag") if key in mouth}
        return table

    def per_pair(self) -> dict[str, dict[str, dict[str, float]]]:
        """Row title to pair to the two matchings."""
        keys = ("sync_matching", "sync_matching_old")
        return {
            title: {dub.pair: {key: dub.figures.get(key, math.nan) for key in keys} for dub in dubs}
            for title, dubs in self.rows.items()
        }


def share_equal_outside(
    system: System, plan: RenderPlan, drawn: NDArray[np.uint8], source: NDArray[np.uint8]
) -> float:
    """Share of frames whose every pixel outside the plan's soft mask is the source frame's own.

    Of what the system drew `(T, H, W, 3)` and what it was drawn into `(T, H, W, 3)`.
    """
    equal = []
    for index, (ours, theirs) in enumerate(zip(drawn, source, strict=False)):
        outside = ~system.pipeline.soft_mask(plan, index)
        equal.append(bool((ours[outside] == theirs[outside]).all()))
    return float(np.mean(equal))
