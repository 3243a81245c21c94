"""Prepare training data: clips, portraits and speech become arrays.

    python -m model.training.builders.prepare source=DATA output=data/prepared

Reads the folders described in docs/training.md (`grid_s1/*.mkv`, `grid_speakers/*.mkv` + `clips.json`,
`portraits/*.jpg` + `index.csv`, `portraits_hd/*.jpg`, `speech/*.opus`; the first and the last with their
`phones/`), finds landmarks in every frame (static mode: no tracking filter, so no lag), computes
log-mels with the sound's start time honoured and writes `grid.npz`, `speakers.npz`, `portraits.npz`,
`portraits_hd.npz`, `speech.npz`; the other speakers' phones are aligned here. Parallel over files;
files that fail are named and skipped; a step whose output exists is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.data.arrays import write_arrays
from model.data.crops import film_frames, read_picture
from model.data.phone_alignment import GRID_GRAMMAR, align_phones, recognise
from model.data.phones import read_phones
from model.data.sound import fit_sound, read_sound, read_sound_in_step
from model.data.tracks import face_detector
from model.errors import UnsupportedMediaError
from model.media.audio import MELS_PER_FRAME, log_mel
from model.training.config import run_program

CLIP_FRAMES = 75  # a GRID sentence


@dataclass(frozen=True)
class ArraysConfig:
    """Arrays of the folders of `source`, into `output`, by `workers` processes; 0 for one a core."""

    source: Path
    output: Path = Path("data/prepared")
    workers: int = 0


def prepare_clip(path: Path) -> dict[str, NDArray[Any]]:
    """Landmarks `(75, 68, 2)` in pixels, log-mel `(300, 80)` and phones `(300,)` of one GRID sentence."""
    landmarks, _, mel = _read_clip(path)
    phones = read_phones(path.parent / "phones" / f"{path.stem}.json", len(mel))
    return {"landmarks": landmarks, "log_mel": mel.astype(np.float16), "phones": phones}


def prepare_speaker_clip(path: Path) -> dict[str, NDArray[Any]]:
    """The same of another speaker, whom `clips.json` names; the phones are aligned to its text.

    Where the text is not known, the corpus' grammar tells what is said.
    """
    row = _speaker_rows(path.parent)[path.name]
    landmarks, sound, mel = _read_clip(path)
    phones = align_phones(sound, row["text"] or recognise(sound, GRID_GRAMMAR), len(mel))
    return {
        "landmarks": landmarks,
        "log_mel": mel.astype(np.float16),
        "phones": phones,
        "speakers": np.array(row["speaker"]),
        "held_out": np.array(row["held_out"]),
    }


@cache
def _speaker_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of `clips.json` by file; none where the folder has no such list."""
    index = folder / "clips.json"
    return {row["file"]: row for row in json.loads(index.read_text())} if index.exists() else {}


def _read_clip(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Landmarks `(75, 68, 2)`, sound `(48000,)` and log-mel `(300, 80)` of one GRID sentence."""
    landmarks: list[NDArray[np.float32]] = []
    for frame in islice(film_frames(path), CLIP_FRAMES):
        faces = face_detector()(frame)
        if not faces:
            raise ValueError(f"no face in frame {len(landmarks)}")
        landmarks.append(faces[0].landmarks)
    if len(landmarks) < CLIP_FRAMES:
        raise ValueError(f"only {len(landmarks)} frames; expected {CLIP_FRAMES}")
    sound = fit_sound(read_sound_in_step(path), CLIP_FRAMES)
    return np.stack(landmarks), sound, log_mel(sound)


def prepare_portrait(path: Path) -> dict[str, NDArray[Any]]:
    """Landmarks `(68, 2)` in pixels of the largest face of one photograph."""
    faces = face_detector()(read_picture(path))
    if not faces:
        raise ValueError("no face")
    return {"landmarks": faces[0].landmarks}


def prepare_utterance(path: Path) -> dict[str, NDArray[Any]]:
    """Log-mel `(4 T, 80)` and phones `(4 T,)` of one utterance."""
    mel = log_mel(read_sound(path))
    phones = read_phones(path.parent / "phones" / f"{path.stem}.json", len(mel))
    assert len(mel) % MELS_PER_FRAME == 0
    return {"log_mel": mel.astype(np.float16), "phones": phones}


def _attempt(
    job: tuple[Callable[[Path], dict[str, NDArray[Any]]], Path],
) -> tuple[str, dict[str, NDArray[Any]] | str]:
    prepare, path = job
    try:
        return path.name, prepare(path)
    except (UnsupportedMediaError, ValueError, OSError) as error:
        return path.name, str(error)


def main(config: ArraysConfig) -> None:
    """Prepare everything under `source` into `output`."""
    source, workers = config.source, config.workers or os.cpu_count() or 1
    speakers = source / "grid_speakers"
    speaker_paths = [speakers / name for name in sorted(_speaker_rows(speakers))]
    plans: list[tuple[str, Callable[[Path], dict[str, NDArray[Any]]], list[Path], bool]] = [
        *(
            (name, prepare_portrait, sorted((source / name).glob("*.jpg")), True)
            for name in ("portraits", "portraits_hd")
        ),
        ("speech", prepare_utterance, sorted((source / "speech").glob("*.opus")), False),
        ("grid", prepare_clip, sorted((source / "grid_s1").glob("*.mkv")), True),
        ("speakers", prepare_speaker_clip, speaker_paths, True),
    ]
    for name, prepare_one, paths, stacked in plans:
        target = config.output / f"{name}.npz"
        if target.exists():
            print(f"{target} exists, skipped")
            continue
        if not paths:
            print(f"nothing for {target}")
            continue
        rows: list[tuple[str, dict[str, NDArray[Any]]]] = []
        with ProcessPoolExecutor(workers) as pool:
            jobs = pool.map(_attempt, [(prepare_one, path) for path in paths], chunksize=4)
            for file, outcome in tqdm(jobs, total=len(paths), desc=name, mininterval=5):
                if isinstance(outcome, str):
                    tqdm.write(f"skipped {file}: {outcome}")
                else:
                    rows.append((file, outcome))
        arrays: dict[str, NDArray[Any]] = {"names": np.array([row_name for row_name, _ in rows])}
        for key in rows[0][1]:
            values = [row[key] for _, row in rows]
            if stacked:
                arrays[key] = np.stack(values)
            else:
                arrays[key] = np.concatenate(values)
                arrays["lengths"] = np.array([len(value) for value in values])
        write_arrays(target, arrays)
        print(f"{target}: {len(rows)} of {len(paths)}")


if __name__ == "__main__":
    run_program(ArraysConfig, main, __doc__)
