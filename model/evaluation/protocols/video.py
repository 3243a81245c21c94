"""Systems in real video: self-reenactment and dubbing.

    self-reenactment   first frame = reference, own sound; the mouth is drawn into every frame
                       "predicted": landmarks from the sound   "detected": from the real frames
    dubbing            the same, with another clip's sound

The real video and its frozen first frame are measured beside them: what is not better than a frozen
face has not learnt to speak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, ClipFrames, fit_sound, hold_gaps
from model.evaluation.metrics.mouth_motion import mouth_figures, swap_figures
from model.evaluation.observation import Judges, Observation, Observer, fid, row_figures
from model.face.alignment import warp_points
from model.face.landmarks import CONTENT
from model.media.audio import log_mel
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline

REAL: Final = "real video"
STATIC: Final = "static image"
PREDICTED: Final = "predicted landmarks"
DETECTED: Final = "detected landmarks"


@dataclass(frozen=True, eq=False)
class System:
    """A checkpoint under test.

    Attributes:
        name: What its rows are called; runs of one name are averaged.
        pipeline: Ready to draw.
        preset: A key of `PRESETS`.
        seed: Of the noise.
        weights_bytes: Size of the checkpoint's files, None where it is not known.
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


def with_landmarks(plan: RenderPlan, landmarks: NDArray[np.float32]) -> RenderPlan:
    """`plan` with jaw and lips of real faces.

    Args:
        plan: Of a video.
        landmarks: The real faces `(T, 68, 2)`, pixels; T at least the plan's.
    """
    targets = plan.target_landmarks.copy()
    for index, points in enumerate(landmarks[: plan.num_frames]):
        real = warp_points(plan.affine(index), points)
        targets[index, list(CONTENT)] = real[list(CONTENT)]
    return dataclasses.replace(plan, target_landmarks=targets)


@dataclass
class Reenactment:
    """Observations of self-reenactment, clip by clip.

    Attributes:
        clips: Clips so far.
        rows: Row title to one observation a clip.
        plans: Row title to the landmarks' openings that were meant to be drawn.
    """

    clips: list[Clip] = field(default_factory=list)
    rows: dict[str, list[Observation]] = field(default_factory=dict)

    def add(self, frames: ClipFrames, observer: Observer, systems: Mapping[str, System]) -> None:
        """Measure one clip.

        Args:
            frames: Its frames.
            observer: Judges them.
            systems: By name; two rows each.
        Raises:
            InputError: The clip cannot be used; no row has changed.
        """
        clip = observer.clip
        rows = {
            REAL: observer.observe_real(),
            STATIC: observer.observe(frozen(frames, clip.reference)),
        }
        for name, system in systems.items():
            predicted = system.plan(frames, clip.waveform, clip.reference)
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
        return {
            title: {
                clip.name: row_figures([clip], [one])
                for clip, one in zip(self.clips, seen, strict=True)
            }
            for title, seen in self.rows.items()
        }


@dataclass(frozen=True)
class _Dub:
    """One pair of a video and another clip's sound."""

    pair: str
    scores: dict[str, float]
    new: float
    old: float
    drawn: NDArray[np.float32]
    wanted: NDArray[np.float32]
    swap: dict[str, float]
    equal: float


@dataclass
class Dubbing:
    """Pairs of a real video and another clip's sound.

    Attributes:
        judges: Who judges.
        rows: Row title to one entry a pair.
    """

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
        still = frozen(frames, clip.reference)
        really = swap_figures(clip.opening, wanted)
        rows = {
            REAL: self._judge(
                pair, observer, observer.observe_real(sound), sound, wanted, swap=really
            ),
            STATIC: self._judge(pair, observer, observer.observe(still, sound), sound, wanted),
        }
        for name, system in systems.items():
            plan = system.plan(frames, sound, clip.reference)
            drawn = np.stack(list(system.draw(plan)))
            seen = observer.observe(drawn, sound)
            before = own.get(name)
            swap = {} if before is None else swap_figures(before.opening, seen.opening)
            equal = share_equal_outside(system, plan, drawn, frames.frames)
            rows[name] = self._judge(pair, observer, seen, sound, wanted, swap=swap, equal=equal)
        for title, entry in rows.items():
            self.rows.setdefault(title, []).append(entry)

    def _judge(
        self,
        pair: str,
        observer: Observer,
        seen: Observation,
        sound: NDArray[np.float32],
        wanted: NDArray[np.float32],
        *,
        swap: Mapping[str, float] | None = None,
        equal: float = float("nan"),
    ) -> _Dub:
        new = old = float("nan")
        held = hold_gaps(seen.landmarks)
        if self.judges.sync is not None and held is not None:
            own = observer.clip.waveform[: 640 * len(held)]
            new = self.judges.sync.matching(log_mel(sound[: 640 * len(held)]), held)
            old = self.judges.sync.matching(log_mel(own), held)
        return _Dub(
            pair, seen.scores, new, old, seen.opening, wanted[: len(seen.opening)],
            dict(swap or {}), equal,
        )  # fmt: skip

    def figures(self) -> dict[str, dict[str, float]]:
        """Row title to figures over all pairs."""
        return {title: _dub_figures(entries) for title, entries in self.rows.items()}

    def per_pair(self) -> dict[str, dict[str, dict[str, float]]]:
        """Row title to pair to the two matchings."""
        return {
            title: {
                entry.pair: {"sync_matching": entry.new, "sync_matching_old": entry.old}
                for entry in entries
            }
            for title, entries in self.rows.items()
        }


def _dub_figures(entries: Sequence[_Dub]) -> dict[str, float]:
    figures: dict[str, float] = {"pairs": float(len(entries))}
    for key in ("lse_c", "lse_d", "syncnet_lse_c", "syncnet_lse_d"):
        rows = [entry.scores[key] for entry in entries if key in entry.scores]
        if rows:
            figures[key] = float(np.mean(rows))
    for key in ("swap_difference", "swap_share"):
        rows = [entry.swap[key] for entry in entries if key in entry.swap]
        if rows:
            figures[key] = float(np.mean(rows))
    judged = [entry for entry in entries if np.isfinite(entry.new)]
    if judged:
        figures["sync_matching"] = float(np.mean([entry.new for entry in judged]))
        figures["sync_matching_old"] = float(np.mean([entry.old for entry in judged]))
        figures["prefers_new"] = float(np.mean([entry.new > entry.old for entry in judged]))
    equal = [entry.equal for entry in entries if np.isfinite(entry.equal)]
    if equal:
        figures["outside_equal"] = float(np.mean(equal))
    mouth = mouth_figures([e.drawn for e in entries], [e.wanted for e in entries])
    figures.update({key: mouth[key] for key in ("opening_r", "best_lag") if key in mouth})
    return figures


def share_equal_outside(
    system: System,
    plan: RenderPlan,
    drawn: NDArray[np.uint8],
    source: NDArray[np.uint8],
) -> float:
    """Share of frames whose every pixel outside the soft mask is the source frame's own.

    Args:
        system: Drew `plan`.
        plan: Says where the mask lies.
        drawn: `(T, H, W, 3)`.
        source: What it was drawn into `(T, H, W, 3)`.
    """
    equal = []
    for index, (ours, theirs) in enumerate(zip(drawn, source, strict=False)):
        outside = ~system.pipeline.soft_mask(plan, index)
        equal.append(bool((ours[outside] == theirs[outside]).all()))
    return float(np.mean(equal))
