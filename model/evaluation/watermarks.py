"""What the watermark withstands, and how often it is seen where it is not.

    python -m model.evaluation.watermark_films --source DATA --output out/watermark_films
    python -m model.evaluation.watermarks --films out/watermark_films/final --real DATA/grid_s1 DATA/films ...

attacks      every film is marked, written as the service writes it, and attacked; who finds the mark?
real         recordings that nobody marked, with the key of the marked ones
wrong keys   some of these recordings with ten thousand keys each

Rows are kept in `rows.jsonl` as they come; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.media.ffmpeg import ffmpeg_path, input_arguments
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from model.watermark.detector import Detection, Trace, detect, grid_scores
from model.watermark.embedder import WatermarkEmbedder

Row = dict[str, Any]

KEY: Final = hashlib.sha256(b"the key of the evaluation").digest()
NUM_KEYS: Final = 10_000
_KEYS_AT_ONCE: Final = 100
_SCREEN_BORDER: Final = "0x303438"
_NEAR: Final = 5.5
"""A third below the threshold; the finer search adds a tenth where there is something to find."""

# Sides stay even. The crop takes a tenth off each side, off-centre: 7 % left and 2 % above, the rest opposite.
# The screen shows the film at 0.87 of its size, 3 px off the middle of a frame whose rest is not the film.
ATTACKS: Final[dict[str, list[str]]] = {
    "as written": ["-c:v", "copy"],
    "crf 28": ["-c:v", "libx264", "-crf", "28"],
    "480p": ["-vf", "scale=-2:480", "-c:v", "libx264", "-crf", "28"],
    "crop": [
        "-vf",
        "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2:iw*0.07:ih*0.02",
        *("-c:v", "libx264", "-crf", "23"),
    ],
    "screen": [
        "-vf",
        "scale=trunc(iw*0.435)*2:trunc(ih*0.435)*2,"
        f"pad=trunc(iw/1.74)*2:trunc(ih/1.74)*2:(ow-iw)/2+3:(oh-ih)/2+3:color={_SCREEN_BORDER},"
        "eq=gamma=1.1,fps=30",
        *("-c:v", "libx264", "-crf", "30"),
    ],
}
ASKED: Final = {"as written": 0.99, "crf 28": 0.99, "480p": 0.99, "crop": 0.9, "screen": 0.9}
"""Share of films in which the mark must be found."""


def payload_of(name: str) -> bytes:
    """Eight bytes that stand for the install and the job of a film."""
    return hashlib.sha256(name.encode()).digest()[:8]


def attack(source: Path, destination: Path, name: str) -> None:
    """Write `source` again as somebody else would; x264 at its default preset, no sound.

    Raises:
        subprocess.CalledProcessError: ffmpeg failed.
    """
    command = [ffmpeg_path(), "-y", "-nostdin", "-loglevel", "error", *input_arguments(source)]
    command += [*ATTACKS[name], "-an", "-threads", "1", f"file:{destination}"]
    subprocess.run(command, check=True)


def write_marked(source: Path, destination: Path, payload: bytes) -> tuple[float, float]:
    """A film, marked and written as the service does; mean and least PSNR of its frames before H.264, dB."""
    embedder: WatermarkEmbedder | None = None
    writer: VideoWriter | None = None
    errors = []
    for frame in read_frames(source, fps=None):
        height, width = frame.shape[:2]
        if embedder is None or writer is None:
            embedder = WatermarkEmbedder(KEY, payload, width=width, height=height)
            writer = VideoWriter(destination, width=width, height=height)
        marked = frame.copy()
        embedder.apply(marked)
        errors.append(cv2.PSNR(frame, marked))
        writer.write(marked)
    assert writer is not None
    writer.close()
    return float(np.mean(errors)), min(errors)


def _row(kind: str, name: str, found: Detection) -> Row:
    return {
        "kind": kind,
        "film": name,
        "found": found.found,
        "score": round(found.score, 3),
        "false_alarm": found.false_alarm,
        "scale": round(found.scale, 4),
    }


def attacked_rows(film: Path) -> Iterator[Row]:
    """A row for every attack on one film."""
    payload = payload_of(film.stem)
    with tempfile.TemporaryDirectory() as folder:
        marked = Path(folder) / "marked.mp4"
        psnr_db, least_db = write_marked(film, marked, payload)
        for name in ATTACKS:
            attacked = Path(folder) / "attacked.mp4"
            attack(marked, attacked, name)
            detection = detect(Trace.of(read_frames(attacked, fps=None)), KEY)
            yield {
                **_row("attack", film.stem, detection),
                "attack": name,
                "read": detection.payload == payload,
                "misread": detection.payload not in (None, payload),
                "psnr_db": round(psnr_db, 3),
                "least_psnr_db": round(least_db, 3),
                "num_bytes": attacked.stat().st_size,
            }


def real_rows(film: Path) -> Iterator[Row]:
    """One row: is the mark seen in a recording that has none?"""
    detection = detect(Trace.of(read_frames(film, fps=None)), KEY)
    yield {**_row("real", film.name, detection), "read": detection.payload is not None}


def wrong_key_rows(film: Path) -> Iterator[Row]:
    """One row: hits and scores of ten thousand keys on one recording.

    The whole detector runs for a key whose grid comes within the finer search's reach of the threshold.
    """
    trace = Trace.of(read_frames(film, fps=None))
    scores: list[NDArray[np.float32]] = []
    hits = 0
    for first in range(0, NUM_KEYS, _KEYS_AT_ONCE):
        keys = [
            hashlib.sha256(f"{film.name} {number}".encode()).digest()
            for number in range(first, first + _KEYS_AT_ONCE)
        ]
        scores.append(grid_scores(trace, keys))
        hits += sum(
            detect(trace, key).found
            for key, score in zip(keys, scores[-1], strict=True)
            if score > _NEAR
        )
    every = np.concatenate(scores)
    yield {
        "kind": "wrong keys",
        "film": film.name,
        "keys": len(every),
        "hits": hits,
        "scores": {str(share): float(np.quantile(every, share)) for share in (0.5, 0.99, 0.9999)},
        "most": float(every.max()),
    }


def summary(rows: list[Row]) -> str:
    """The tables."""
    text = (
        "| attack | films | found | payload read | misread | score: least, 10 %, median | asked |\n"
    )
    text += "| --- | --- | --- | --- | --- | --- | --- |\n"
    attacked = [row for row in rows if row["kind"] == "attack"]
    for name in ATTACKS:
        of = [row for row in attacked if row["attack"] == name]
        if not of:
            continue
        least, tenth, median = np.quantile([row["score"] for row in of], [0, 0.1, 0.5])
        found, read, wrong = (
            np.mean([row[key] for row in of]) for key in ("found", "read", "misread")
        )
        text += (
            f"| {name} | {len(of)} | {found:.1%} | {read:.1%} | {wrong:.1%} | "
            f"{least:.1f}, {tenth:.1f}, {median:.1f} | {ASKED[name]:.0%} |\n"
        )
    if attacked:
        mean_db, least_db = ([row[key] for row in attacked] for key in ("psnr_db", "least_psnr_db"))
        text += f"\nPSNR: mean {np.mean(mean_db):.2f} dB, least film {min(mean_db):.2f}, "
        text += f"least frame {min(least_db):.2f}\n"
    real = [row for row in rows if row["kind"] == "real"]
    if real:
        most = max(row["score"] for row in real)
        text += f"\nReal recordings: {sum(row['found'] for row in real)} hits in {len(real)}, "
        text += f"highest score {most:.2f}\n"
    wrong_keys = [row for row in rows if row["kind"] == "wrong keys"]
    if wrong_keys:
        text += f"\nWrong keys: {sum(row['hits'] for row in wrong_keys)} hits in "
        text += f"{sum(row['keys'] for row in wrong_keys)} trials on {len(wrong_keys)} recordings, "
        text += f"highest score {max(row['most'] for row in wrong_keys):.2f}\n"
    return text + "\n" + roc(rows)


def roc(rows: list[Row]) -> str:
    """Share of marks found, by the bound on false alarms that is asked."""
    levels = (1e-2, 1e-4, 1e-6, 1e-9, 1e-12)
    text = "| attack | " + " | ".join(f"{level:g}" for level in levels) + " |\n"
    text += "| --- |" + " --- |" * len(levels) + "\n"
    for name in ATTACKS:
        bounds = [row["false_alarm"] for row in rows if row.get("attack") == name]
        if bounds:
            shares = [np.mean([bound <= level for bound in bounds]) for level in levels]
            text += f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |\n"
    return text


def films_in(folders: list[Path]) -> list[Path]:
    """Videos of some folders, or files, sorted."""
    found = [
        path
        for folder in folders
        for path in ([folder] if folder.is_file() else sorted(folder.iterdir()))
    ]
    return [path for path in found if path.suffix in {".mkv", ".mp4"}]


def main() -> None:
    """Command-line door."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, nargs="*", default=[], help="films without a mark")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="real recordings")
    parser.add_argument("--wrong-keys", type=Path, nargs="*", default=[], help="the same, slow")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    parser.add_argument("--first", type=int, default=0, help="and begin with this one")
    parser.add_argument("--output", type=Path, default=Path("out/watermarks"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "rows.jsonl"
    rows = [json.loads(line) for line in kept.open()] if kept.exists() else []

    tasks: tuple[tuple[str, list[Path], Callable[[Path], Iterator[Row]]], ...] = (
        ("attack", arguments.films, attacked_rows),
        ("real", arguments.real, real_rows),
        ("wrong keys", arguments.wrong_keys, wrong_key_rows),
    )
    for kind, folders, measure in tasks:
        done = {row["film"] for row in rows if row["kind"] == kind}
        for film in films_in(folders)[arguments.first :: arguments.every]:
            if film.stem in done or film.name in done:
                continue
            new = list(measure(film))
            rows += new
            with kept.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)
            print(*new, sep="\n", flush=True)
    text = summary(rows)
    (arguments.output / "figures.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
