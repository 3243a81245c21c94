"""Pictures of people whom nothing was trained on: is the skin theirs, and is the mouth what a camera saw?

    python -m model.evaluation.unseen_pictures --source DATA --presets preview balanced
    python -m model.evaluation.unseen_pictures --source DATA --sets choosing --weights new=DIR old=DIR

stills     held-out photographs at their own size say another's words: texture against the photograph's
           through the same codec, opening as drawn, light of the teeth, whose teeth they are; rows by
           the skin's tone
choosing   GRID's s31 and x14, every choice is made on them
grid       GRID, six held-out speakers, read once, at the end

Of films, the real lips and jaw are drawn twice: from the first frame alone, as a photograph, and into
a frame at least ten away whose mouth is open otherwise, never into the one that is asked for. Both are
compared with the real frame at 256 px in the lower face, on the same pixels for all checkpoints.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.clips import (
    Clip,
    ClipFrames,
    find_landmarks,
    find_large_portraits,
    find_voices,
    read_clip,
    read_portrait,
    read_voice,
)
from model.data.layouts import Source
from model.data.tracks import face_detector
from model.data.unseen_films import film_files
from model.evaluation.metrics.film_faults import mouth_light, texture
from model.evaluation.metrics.pictures import FINE_PX
from model.evaluation.observation import Judges, Observer
from model.evaluation.protocols.video import posed, with_landmarks
from model.evaluation.report import column_table, write_figures
from model.face.alignment import crop_affine, crop_image, invert_affine, warp_points
from model.face.landmarks import (
    INNER_LIPS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    mouth_opening,
    mouth_width,
)
from model.face.mouth_light import LUMA
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

Picture = NDArray[np.uint8]
Row = dict[str, float]

STILLS: Final = "stills"
_LEAST_FACE: Final = 240  # pixels of its side, of photographs whose texture is measured
_LARGEST: Final = 768  # side of the photographs
_FAR: Final = 10  # frames between a film's frame and what it is drawn into
_OPEN: Final = 0.15
_SMILE: Final = 0.10  # opening from which a photograph shows its teeth
_WIDER: Final = 0.12  # of the mouth's width, by which it is then opened
_SHEET: Final = 6
_SHEET_PX: Final = 300
_TONES: Final = ((28.0, "light"), (10.0, "tan"), (-90.0, "dark"))
"""Least individual typology angle of each tone, degrees (Chardon 1991, neighbours joined)."""

_MEDIANS: Final = ("chin", "cheek", "lips", "light", "teeth_r", "teeth")

TITLES: Final = {
    "count": "pictures, or films",
    "chin": "texture of the chin / the photograph's",
    "cheek": "texture of the cheeks / the photograph's",
    "lips": "texture of the lips / the photograph's",
    "r": "opening as drawn against the wanted one, r",
    "outside_equal": "frames equal to the photograph beyond the moved region, share",
    "light": "brightest tooth / white of the eye",
    "teeth_r": "the photograph's own teeth, mouth opened wider: r of their brightness",
    "teeth": "texture of these teeth / the photograph's",
    "photograph_psnr": "from the first frame as a photograph: PSNR in the lower face, dB",
    "photograph_ssim": "the same, SSIM",
    "film_psnr": "into another frame of the film: PSNR in the lower face, dB",
    "film_ssim": "the same, SSIM",
}


def skin_tone(image: Picture, face: NDArray[np.float32]) -> str:
    """Light, tan or dark, by the individual typology angle of the cheeks.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        face: `(68, 2)`, pixels.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    half = max(2, round(0.03 * float(np.ptp(face[:17, 0]))))
    patches = []
    for one, other in ((3, 48), (13, 54)):
        x, y = np.round((face[one] + face[other]) / 2).astype(int)
        patches.append(lab[max(y - half, 0) : y + half, max(x - half, 0) : x + half].reshape(-1, 3))
    lightness, _, yellow = np.median(np.concatenate(patches), axis=0)
    angle = float(np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3))))
    return next(name for least, name in _TONES if angle > least)


def encoded(frames: Sequence[Picture]) -> list[Picture]:
    """Frames `(H, W, 3)` as a video's reader gets them."""
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mp4"
        with VideoWriter(path, width=width, height=height, fps=25.0) as writer:
            for frame in frames:
                writer.write(frame)
        return list(read_frames(path))


def judge_still(
    pipeline: TalkingFacePipeline, image: Picture, voice: NDArray[np.float32], preset: str
) -> tuple[Row, str, Picture]:
    """Figures of one photograph, its skin's tone, and a sheet: the photograph, then mouths ever wider."""
    plan = pipeline.prepare(image, voice, RenderOptions(preset=preset))
    frames = [frame for batch in pipeline.render(plan) for frame in batch]
    back = invert_affine(plan.affine(0))
    own, targets = (
        warp_points(back, plan.reference_landmarks),
        warp_points(back, plan.target_landmarks),
    )
    wanted = mouth_opening(plan.target_landmarks)
    found = mouth_opening(find_landmarks(face_detector(), frames, targets))
    seen = np.isfinite(found)
    outside = ~pipeline.soft_mask(plan)
    still = texture(encoded([image] * 3)[-1], own)
    moved = [texture(frame, face) for frame, face in zip(encoded(frames), targets, strict=True)]
    lights = [
        mouth_light(frame, face)
        for frame, face, opening in zip(frames, targets, wanted, strict=True)
        if opening > _OPEN
    ]
    row = {name: float(np.nanmean([x[name] for x in moved])) / still[name] for name in still}
    row |= {
        "r": float(np.corrcoef(found[seen], wanted[seen])[0, 1]),
        "outside_equal": float(np.mean([(x[outside] == image[outside]).all() for x in frames])),
        "light": float(np.nanmedian(lights)) if lights else float("nan"),
    }
    if mouth_opening(plan.reference_landmarks) > _SMILE:
        row |= own_teeth(pipeline, plan, image)
    order = np.argsort(wanted)[np.linspace(0, len(wanted) - 1, _SHEET - 1).astype(int)]
    tiles = [_tile(image, own), *(_tile(frames[k], targets[k]) for k in order)]
    return row, skin_tone(image, own), np.concatenate(tiles, axis=1)


def own_teeth(pipeline: TalkingFacePipeline, plan: RenderPlan, image: Picture) -> Row:
    """How like a photograph's own teeth are those of the same mouth, its lower lip and jaw lowered.

    Upper teeth stand in the skull, so the same pixels should show them.
    """
    face = plan.reference_landmarks.copy()
    face[[*range(4, 13), *LOWER_OUTER_LIP, *LOWER_INNER_LIP], 1] += _WIDER * mouth_width(face)
    targets = np.repeat(face[None], plan.num_frames, axis=0)
    opened = dataclasses.replace(plan, target_landmarks=targets)
    frame = next(iter(pipeline.render(opened, 0, 1)))[0]
    own = warp_points(invert_affine(plan.affine(0)), plan.reference_landmarks)[list(INNER_LIPS)]
    shown = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(shown, [np.round(own).astype(np.int32)], 1)
    inset = max(1, round(0.03 * float(np.ptp(own[:, 0]))))
    inside = cv2.erode(shown, np.ones((2 * inset + 1,) * 2, np.uint8)) > 0
    if not inside.any():
        return {}
    drawn, real = (picture.astype(np.float32) @ LUMA for picture in (frame, image))
    edges = [float(cv2.Laplacian(grey, cv2.CV_32F)[inside].var()) for grey in (drawn, real)]
    r = float(np.corrcoef(drawn[inside], real[inside])[0, 1])
    return {"teeth_r": r, "teeth": edges[0] / max(edges[1], 1e-6)}


def _tile(frame: Picture, face: NDArray[np.float32]) -> Picture:
    """The lower half of a face."""
    crop = crop_image(frame, crop_affine(face), 2 * _SHEET_PX)
    return crop[_SHEET_PX * 3 // 4 :, _SHEET_PX // 2 : -_SHEET_PX // 2]


def stills(
    pipeline: TalkingFacePipeline, source: Path, preset: str, num_frames: int
) -> Iterator[tuple[str, Row, str, Picture]]:
    """Name, figures, tone and sheet of every photograph that is large enough."""
    voices = [read_voice(path, num_frames) for path in find_voices(source / "speech")]
    for number, path in enumerate(find_large_portraits(source)):
        image = read_portrait(path, _LARGEST)
        faces = face_detector()(image)
        if faces and faces[0].size_px >= _LEAST_FACE:
            yield path.stem, *judge_still(pipeline, image, voices[number % len(voices)], preset)


def far_frames(frames: ClipFrames, clip: Clip) -> ClipFrames:
    """Every frame's place taken by one at least `_FAR` away with the most different mouth, in its pose."""
    count = len(frames.frames)
    away = np.abs(np.arange(count)[:, None] - np.arange(count)[None]) >= _FAR
    change = np.where(away, np.abs(clip.opening[:, None] - clip.opening[None]), -1.0)
    chosen = np.nanargmax(change, axis=1)
    moved = {int(other): posed(frames, clip, int(other)).frames for other in set(chosen.tolist())}
    return ClipFrames(np.stack([moved[int(other)][index] for index, other in enumerate(chosen)]))


def judge_film(
    pipeline: TalkingFacePipeline, path: Path, options: RenderOptions, max_frames: int
) -> tuple[Row, Picture]:
    """PSNR and SSIM of one film drawn from its first frame and into far frames, and a sheet."""
    source = Source(path.name, path, path.stem, held_out=True)
    clip, frames = read_clip(source, face_detector(), max_frames)
    observer = Observer(clip, frames.frames, Judges(face_detector()), FINE_PX)
    row: Row = {}
    sheet = [frames.frames]
    for name, shown in (("photograph", posed(frames, clip, 0)), ("film", far_frames(frames, clip))):
        references = (frames.frames[0],) if name == "photograph" else ()
        plan = pipeline.prepare_video(shown, clip.waveform, options, references=references)
        plan = with_landmarks(plan, clip.landmarks)
        drawn = np.concatenate(list(pipeline.render(plan)))
        seen = observer.observe(drawn)
        row |= {
            f"{name}_{key}": float(seen.per_frame[f"{key}_mask"].mean()) for key in ("psnr", "ssim")
        }
        sheet.append(drawn)
    order = np.argsort(clip.opening)[np.linspace(0, clip.num_frames - 1, _SHEET).astype(int)]
    rows = [
        np.concatenate([_tile(film[k], clip.landmarks[k]) for k in order], axis=1) for film in sheet
    ]
    return row, np.concatenate(rows)


def summary(rows: Sequence[Row]) -> Row:
    """Medians of photographs' and means of films' figures."""
    columns = {key: [row[key] for row in rows if key in row] for row in rows for key in row}
    middle = {
        key: float((np.nanmedian if key in _MEDIANS else np.nanmean)(column))
        for key, column in columns.items()
    }
    return {"count": float(len(rows)), **middle}


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=[STILLS], help="stills, choosing, grid")
    parser.add_argument("--presets", nargs="+", default=["preview", "balanced"])
    parser.add_argument("--weights", nargs="+", default=[], help="name=FOLDER; none: what ships")
    parser.add_argument("--region", default="mouth", choices=("mouth", "lower_face"))
    parser.add_argument("--frames", type=int, default=50, help="of each film")
    parser.add_argument("--limit", type=int, default=None, help="pictures or films of each set")
    parser.add_argument("--output", type=Path, default=Path("out/pictures"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    named = [tuple(word.split("=", 1)) for word in arguments.weights] or [("", "")]
    tables: dict[str, dict[str, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    tones: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for name, folder in named:
        pipeline = load_pipeline(Path(folder) if folder else None)
        for preset in arguments.presets:
            title = " ".join(filter(None, (name, preset)))
            options = RenderOptions(preset=preset, region=arguments.region)
            for which in arguments.sets:
                if which == STILLS:
                    found = stills(pipeline, arguments.source, preset, arguments.frames)
                else:
                    paths = film_files(arguments.source, which)
                    found = (
                        (path.stem, row, "", sheet)
                        for path in paths
                        for row, sheet in [judge_film(pipeline, path, options, arguments.frames)]
                    )
                for number, (picture, row, tone, sheet) in enumerate(found, start=1):
                    tables[which][title][picture] = row
                    if tone:
                        tones[title][tone].append(row)
                    file = f"{which}_{picture}_{title.replace(' ', '_')}.png"
                    Image.fromarray(sheet).save(arguments.output / file)
                    print(picture, title, {k: round(v, 3) for k, v in row.items()}, flush=True)
                    if number == arguments.limit:
                        break
    text = ""
    for which, titles in tables.items():
        columns = {title: summary(list(rows.values())) for title, rows in titles.items()}
        if which == STILLS:
            columns |= {
                f"{title}, {tone} skin": summary(rows)
                for title, groups in tones.items()
                for tone, rows in groups.items()
            }
        text += f"### {which}\n\n" + column_table(columns, TITLES) + "\n\n"
    write_figures(arguments.output, tables, text)
    print(text)


if __name__ == "__main__":
    main()
