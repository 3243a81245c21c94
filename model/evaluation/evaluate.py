"""Every protocol for every checkpoint, and one report.

    clips ─▶ find the face once ─┬▶ self-reenactment ┐
                                 ├▶ dubbing          │
                                 └▶ silence, leak    ├▶ evaluation.json  evaluation.md
    portraits + voices ──────────▶ one-shot          │  contact sheets   plots
    portraits + clips ───────────▶ real motion,      │
                                   steadiness        │
    source ──────────────────────▶ heads, blinks,    │
                                   lively            ┘

`talkface evaluate` is its door.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.checkpoints import verify_checkpoint
from model.data.clips import (
    Clip,
    ClipFrames,
    find_clips,
    find_portraits,
    find_voices,
    read_clip,
    read_voice,
)
from model.data.crops import read_picture
from model.data.layouts import Source
from model.errors import InputError
from model.evaluation.acceptance import read_landmark_figures
from model.evaluation.alive import measure_alive
from model.evaluation.observation import Judges, Observer
from model.evaluation.options import ALIVE, EvaluationOptions
from model.evaluation.protocols.motion import RealMotion
from model.evaluation.protocols.steadiness import FIRST_FRAMES, PHOTOGRAPHS, Steadiness
from model.evaluation.protocols.still import Portraits, ReferenceTests
from model.evaluation.protocols.video import PREDICTED, Dubbing, Reenactment, System
from model.evaluation.report import label_row
from model.evaluation.results import Results, write_report
from model.pipelines.talking_face import load_pipeline

Tell = Callable[[str], None]
ItemT = TypeVar("ItemT")

_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
_ON_CLIPS: Final = frozenset({"reenactment", "dubbing", "references", "motion", "steadiness"})
_DRIVEN: Final = frozenset({"motion", "steadiness"})
_SHEET_CLIPS: Final = 4
_REFERENCE_CLIPS: Final = 4  # silence and leak draw 150 frames a clip


def evaluate(
    options: EvaluationOptions, judges: Judges, tell: Tell = lambda _: None
) -> dict[str, Any]:
    """Measure and write the report into `options.output`; `tell` is told what goes on.

    Returns:
        What `evaluation.json` holds.
    Raises:
        InputError: A folder has nothing to measure on.
        CheckpointError: Weights cannot be used.
    """
    systems = load_systems(options, judges)
    results = Results(
        Reenactment(), Dubbing(judges), ReferenceTests(judges), Portraits(judges),
        RealMotion(judges, stride=options.stride), Steadiness(), list(judges.skipped),
    )  # fmt: skip
    given = options.landmark_figures
    landmarks = {} if given is None else read_landmark_figures(given)
    measuring = _Measuring(options, judges, systems, results, tell)
    wanted = set(options.protocols)
    if wanted & _ON_CLIPS and options.clips is None:
        results.skipped.append(
            f"{', '.join(sorted(wanted & _ON_CLIPS))}: needs real videos; give their folder as --clips"
        )
        wanted -= _ON_CLIPS
    if wanted & set(ALIVE) and options.source is None:
        results.skipped.append(
            f"{', '.join(sorted(wanted & set(ALIVE)))}: needs portraits/, speech/ and the like; give "
            "the folder that holds them as --source"
        )
    elif wanted & set(ALIVE):
        measure_alive(options, judges, systems, results, tell)
    if wanted & _ON_CLIPS - _DRIVEN:
        measuring.clips()
    if "motion" in wanted:
        measuring.motion()
    if "steadiness" in wanted:
        measuring.steadiness()
    if "portraits" in wanted:
        measuring.portraits()
    return write_report(options, systems, results, landmarks)


def load_systems(options: EvaluationOptions, judges: Judges) -> dict[str, System]:
    """Every checkpoint with every seed; names are unique."""
    systems: dict[str, System] = {}
    names = [checkpoint.name for checkpoint in options.checkpoints]
    for checkpoint in options.checkpoints:
        pipeline = load_pipeline(checkpoint.folder, device=options.device)
        pipeline.detector = judges.detector
        size, name = verify_checkpoint(checkpoint.folder).total_bytes, checkpoint.name
        for seed in options.seeds:
            alone = names.count(name) * len(options.seeds) == 1
            before = sum(label.rpartition(" (")[0] == name for label in systems)
            label = name if alone else f"{name} ({before + 1})"
            systems[label] = System(label, pipeline, options.preset, seed, size)
    return systems


def spread(items: Sequence[ItemT], limit: int) -> list[ItemT]:
    """At most `limit` of `items`, evenly from first to last."""
    if len(items) <= limit:
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


@dataclass(frozen=True)
class _Measuring:
    """One evaluation: what it measures, and who is told what."""

    options: EvaluationOptions
    judges: Judges
    systems: Mapping[str, System]
    results: Results
    tell: Tell

    def _find_clips(self, limit: int) -> list[Source]:
        options = self.options
        assert options.clips is not None
        return spread(find_clips(options.layout, options.clips, every=options.every_clip), limit)

    def _read(self, source: Source) -> tuple[Clip, ClipFrames]:
        return read_clip(source, self.judges.detector, self.options.max_frames)

    def clips(self) -> None:
        """Self-reenactment, dubbing, silence and leak."""
        options, results = self.options, self.results
        sources = self._find_clips(options.limit)
        last: Clip | None = None
        if len(sources) > 1 and "dubbing" in options.protocols:
            # Each clip gets the sound of the clip before, the first one the last one's.
            with contextlib.suppress(InputError):  # it will be named when its turn comes
                last, _ = self._read(sources[-1])
        for number, source in enumerate(sources, start=1):
            self.tell(f"{source.name} ({number} of {len(sources)})")
            try:
                clip, frames = self._read(source)
                observer = Observer(clip, frames.frames, self.judges, options.crop_px)
                self._measure_clip(observer, frames, last)
            except InputError as error:
                results.skipped.append(f"{source.name}: {error}")
                continue
            last = clip
            results.clips.append(clip.name)
        if not results.clips:
            raise InputError(
                f"no video in {options.clips} could be measured: {results.skipped[-1]}"
            )
        if "dubbing" in options.protocols and not results.dubbing.rows:
            results.skipped.append(
                f"dubbing: needs two videos; {options.clips} has one that is usable"
            )

    def _measure_clip(self, observer: Observer, frames: ClipFrames, other: Clip | None) -> None:
        """All protocols on one clip; `other` gives the sound for dubbing."""
        clip, systems, results = observer.clip, self.systems, self.results
        protocols = self.options.protocols
        rows = results.reenactment.rows  # stay empty where self-reenactment is not wanted
        if "reenactment" in protocols:
            results.reenactment.add(frames, observer, systems)
            if len(results.reenactment.clips) <= _SHEET_CLIPS:
                results.sheet += [
                    label_row(f"{clip.name} {title}", seen[-1].sheet)
                    for title, seen in rows.items()
                ]
        if "dubbing" in protocols and other is not None and other.name != clip.name:
            titles = {name: f"{name}, {PREDICTED}" for name in systems}
            own = {name: rows[title][-1] for name, title in titles.items() if title in rows}
            results.dubbing.add(frames, observer, other, systems, own)
        if "references" in protocols and len(results.clips) < _REFERENCE_CLIPS:
            for system in systems.values():
                results.references.add(frames, clip, system)

    def portraits(self) -> None:
        """Photographs that say unseen voices."""
        options, results = self.options, self.results
        folders = (options.portraits or _EXAMPLES, options.speech or _EXAMPLES)
        if not all(folder.is_dir() for folder in folders):
            results.skipped.append(
                "portraits: needs photographs and voices; give their folders as --portraits, --speech"
            )
            return
        chosen, voices = spread(find_portraits(folders[0]), options.limit), find_voices(folders[1])
        for number, path in enumerate(chosen):
            self.tell(f"{path.name} ({number + 1} of {len(chosen)})")
            voice, other = (
                read_voice(voices[index % len(voices)], options.max_frames)
                for index in (number, number + 1)
            )
            image = read_photograph(path)
            try:
                for system in self.systems.values():
                    another = other if len(voices) > 1 else None
                    results.portraits.add(path.stem, image, voice, another, system)
            except InputError as error:
                results.skipped.append(f"{path.name}: {error}")

    def motion(self) -> None:
        """Photographs that real mouths move."""
        limit = self.options.motion_limit
        found = self._drive("motion", limit, self.results.motion.add)
        if found < limit:
            self.results.skipped.append(
                f"motion: {limit} photographs were asked for, and there are {found} of unseen people"
            )

    def steadiness(self) -> None:
        """What moves in photographs, and in the first frames of clips."""

        def measure(
            name: str, image: NDArray[np.uint8], clip: Clip, frames: ClipFrames, system: System
        ) -> None:
            add = self.results.steadiness.add
            add(f"{system.name}, {PHOTOGRAPHS}", name, image, clip, frames, system)
            still = frames.frames[clip.reference]
            add(f"{system.name}, {FIRST_FRAMES}", clip.name, still, clip, frames, system)

        self._drive("steadiness", self.options.limit, measure)

    def _drive(self, protocol: str, limit: int, measure: Callable[..., None]) -> int:
        """Measure at most `limit` photographs, each with a clip of its own; returns how many there are."""
        found = find_portraits(self.options.portraits or _EXAMPLES)
        chosen = spread(found, limit)
        drivers = cycle(self._find_clips(len(chosen)))
        for number, (path, source) in enumerate(zip(chosen, drivers, strict=False), start=1):
            what = f"{protocol}: {path.name}, {source.name}"
            self.tell(f"{what} ({number} of {len(chosen)})")
            try:
                clip, frames = self._read(source)
                image = read_photograph(path)
                for system in self.systems.values():
                    measure(path.stem, image, clip, frames, system)
            except InputError as error:
                self.results.skipped.append(f"{what}: {error}")
        return len(found)


def read_photograph(path: Path) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)`, uint8 RGB, with even sides as videos want them."""
    image = read_picture(path)
    return np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
