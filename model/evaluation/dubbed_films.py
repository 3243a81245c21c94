"""Films under another voice: are their outlines whole, is the skin steady, and whose mouth is it?

    python -m model.evaluation.dubbed_films --source DATA --presets preview balanced

Films: the two of `films/`, and portraits that speak and move as a tracked head (`model.data.made_films`).
A film dubbed with its own sound would be matched by a copy of itself: every voice here is another's,
and silence is dubbed over talking films as well. Prints and writes `figures.json`, `figures.md` and a
sheet of each film.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.clips import (
    ClipFrames,
    find_landmarks,
    find_large_portraits,
    find_voices,
    read_portrait,
    read_voice,
)
from model.data.made_films import tracked_motion
from model.data.tracks import face_detector
from model.evaluation.metrics.film_faults import (
    flicker,
    leak,
    mouth_light,
    opening_left,
    outline_damage,
)
from model.evaluation.metrics.landmarks import SHUT
from model.evaluation.report import column_table, write_figures
from model.face.alignment import invert_affine, warp_points
from model.face.landmarks import mouth_opening
from model.media.audio import FPS, SAMPLES_PER_FRAME
from model.media.frames import FrameSource
from model.media.video_reader import read_frames
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import HeadPath, RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

_SIDE_PX: Final = 720  # longest side of a made film
_STRENGTH: Final = 0.5  # of a lively speaker's motion
_SHEET: Final = 6  # frames of a sheet
_SHEET_PX: Final = 360

TITLES: Final = {
    "outline": "frames with a damaged outline, share",
    "flicker_chin": "flicker of the chin / the film's own",
    "flicker_cheek": "flicker of the cheeks / the film's own",
    "r": "opening as drawn against the wanted one, r",
    "leak": "leak of the film's own opening, size of its partial r",
    "left": "share of the film's own opening that is left in the drawn one, its size",
    "shut": "frames shut under silence, share",
    "light": "brightest tooth / white of the eye",
}


@dataclass(frozen=True, eq=False)
class Film:
    """One film to dub.

    Attributes:
        name: For tables.
        source: Its frames.
        voice: What shall be said, `(N,)` 16 kHz: another's.
    """

    name: str
    source: FrameSource
    voice: NDArray[np.float32]


def make_films(
    pipeline: TalkingFacePipeline, source: Path, count: int, num_frames: int
) -> Iterator[Film]:
    """Films of held-out people: the real ones, then `count` made of portraits.

    Args:
        pipeline: Lets the portraits speak.
        source: Folder with `films/`, `portraits/`, `portraits_hd/`, `head_motion/` and `speech/`.
        count: Films to make.
        num_frames: Of each film.
    Raises:
        InputError: A portrait or a voice cannot be used.
    """
    voices = [read_voice(path, num_frames) for path in find_voices(source / "speech")]
    for number, path in enumerate(sorted((source / "films").glob("*.mp4"))):
        frames = np.stack(list(islice(read_frames(path, fps=FPS), num_frames)))
        yield Film(path.stem, ClipFrames(frames), voices[number % len(voices)])

    portraits = find_large_portraits(source)
    tracks = source / "head_motion" / "weekly_addresses.npz"
    spread = np.linspace(0, len(portraits) - 1, count).astype(int)  # over both sets
    for number, path in enumerate(portraits[k] for k in spread):
        own = voices[(2 * number + 1) % len(voices)]
        still = pipeline.prepare(
            read_portrait(path, _SIDE_PX), own, RenderOptions(preset="preview")
        )
        motion = tracked_motion(tracks, 7 * number, num_frames, _STRENGTH, bool(number % 2))
        path_of_head = HeadPath(motion, np.arange(still.num_frames).clip(max=num_frames - 1))
        moved = dataclasses.replace(still, head=path_of_head)
        film = ClipFrames(np.concatenate(list(pipeline.render(moved)))[:num_frames])
        yield Film(path.stem, film, voices[(2 * number + 2) % len(voices)])


def in_pixels(plan: RenderPlan, faces: Points) -> Points:
    """Faces `(T, 68, 2)` of a plan, crop units of each frame, in pixels."""
    return np.stack(
        [warp_points(invert_affine(plan.affine(k)), face) for k, face in enumerate(faces)]
    )


def judge(
    pipeline: TalkingFacePipeline, film: Film, options: RenderOptions
) -> tuple[dict[str, float], Frames]:
    """Figures of one film under one preset, and a sheet: source above, drawn below."""
    plan = pipeline.prepare_video(film.source, film.voice, options)
    assert plan.footage is not None
    drawn = list(np.concatenate(list(pipeline.render(plan))))
    source = [next(iter(film.source.read(k, k + 1))) for k in plan.footage.source_index]
    faces, targets = in_pixels(plan, plan.footage.landmarks), in_pixels(plan, plan.target_landmarks)
    wanted, own = mouth_opening(plan.target_landmarks), mouth_opening(plan.footage.landmarks)
    found = mouth_opening(find_landmarks(face_detector(), drawn, targets))
    seen = np.isfinite(found)
    steady = flicker(drawn, source, faces, targets)
    lights = [mouth_light(x, y) for x, y, o in zip(drawn, targets, wanted, strict=True) if o > 0.15]
    figures = {
        "outline": outline_damage(drawn, source, faces, targets),
        "flicker_chin": steady["chin"],
        "flicker_cheek": steady["cheek"],
        "r": float(np.corrcoef(found[seen], wanted[seen])[0, 1]),
        "leak": leak(found[seen], wanted[seen], own[seen]),
        "left": opening_left(found[seen], wanted[seen], own[seen]),
        "light": float(np.nanmedian(lights)) if lights else float("nan"),
    }
    quiet = np.zeros(len(source) * SAMPLES_PER_FRAME, np.float32)
    silent = pipeline.prepare_video(film.source, quiet, options)
    rest = np.concatenate(list(pipeline.render(silent)))
    near = in_pixels(silent, silent.target_landmarks)
    resting = mouth_opening(find_landmarks(face_detector(), rest, near))
    figures["shut"] = float((resting < SHUT).mean())
    return figures, _sheet(source, drawn, faces)


def _sheet(source: Sequence[Frames], drawn: Sequence[Frames], faces: Points) -> Frames:
    """Faces of some frames, as they were and as they are drawn."""
    columns = []
    for k in np.linspace(0, len(drawn) - 1, _SHEET).astype(int):
        low = np.maximum(faces[k].min(axis=0) - 0.15 * np.ptp(faces[k], axis=0), 0).astype(int)
        high = (faces[k].max(axis=0) + 0.25 * np.ptp(faces[k], axis=0)).astype(int)
        cut = (slice(low[1], high[1]), slice(low[0], high[0]))
        tiles = [cv2.resize(x[k][cut], (_SHEET_PX, _SHEET_PX)) for x in (source, drawn)]
        columns.append(np.concatenate(tiles))
    return np.asarray(np.concatenate(columns, axis=1), np.uint8)


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the films")
    parser.add_argument("--presets", nargs="+", default=["preview", "balanced"])
    parser.add_argument("--films", type=int, default=8, help="films that are made of portraits")
    parser.add_argument("--frames", type=int, default=100, help="of each film")
    parser.add_argument("--output", type=Path, default=Path("out/dubbed"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    pipeline = load_pipeline()
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for film in make_films(pipeline, arguments.source, arguments.films, arguments.frames):
        for preset in arguments.presets:
            figures, sheet = judge(pipeline, film, RenderOptions(preset=preset))
            tables.setdefault(preset, {})[film.name] = figures
            Image.fromarray(sheet).save(arguments.output / f"{film.name}_{preset}.png")
            print(film.name, preset, {k: round(v, 3) for k, v in figures.items()}, flush=True)
    text = ""
    for preset, films in tables.items():
        rows = list(films.values())
        for row in rows:
            row |= {key: abs(row[key]) for key in ("leak", "left")}  # of either sign
        mean = {key: float(np.nanmean([row[key] for row in rows])) for key in TITLES}
        worst = {key: float(np.nanmax([row[key] for row in rows])) for key in TITLES}
        for key in ("r", "shut"):
            worst[key] = float(np.nanmin([row[key] for row in rows]))
        text += f"### {preset}: {len(films)} films\n\n"
        text += column_table({"mean": mean, "worst": worst}, TITLES) + "\n\n"
    write_figures(arguments.output, tables, text)
    print(text)


if __name__ == "__main__":
    main()
