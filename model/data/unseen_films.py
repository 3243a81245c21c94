"""Films of people whom nothing was trained on, as still faces that speak: what the completer is judged by.

choosing   GRID's s31 and x14, 19 clips     every choice is made on them
grid       GRID, six held-out speakers      read once, at the end
cremad     CREMA-D, one actor, six moods    read once, at the end
addresses  two weekly addresses             read once, at the end
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.data.filmed_motion import carry, stabilise
from model.data.held_out_speech import Sound
from model.data.phone_alignment import GRID_GRAMMAR, align_phones, recognise
from model.data.sound import fit_sound, read_sound_in_step
from model.data.split import CHOOSING_SPEAKERS
from model.data.tracks import face_detector
from model.errors import InputError
from model.face.landmarks import CONTENT, POSE, join_landmarks
from model.face.tracking import turn_offsets
from model.media.audio import MELS_PER_FRAME, log_mel
from model.media.video_reader import read_frames

CHOOSING: Final = "choosing"
FINAL: Final = ("grid", "cremad", "addresses")
_CREMAD_SENTENCE: Final = "don't forget a jacket"
_GRID_FRAMES: Final = 75


@dataclass(frozen=True, eq=False)
class UnseenFilm:
    """One film.

    Attributes:
        name: Of its file.
        speaker: Who speaks.
        sound: What is said.
        faces: The real face, held in the pose of the first frame `(T, 68, 2)`, crop units.
        phones: `(4T,)` of 10 ms, or None where the text is not known.
    """

    name: str
    speaker: str
    sound: Sound
    faces: NDArray[np.float32]
    phones: NDArray[np.uint8] | None


def read_films(source: Path, which: str) -> list[UnseenFilm]:
    """The films of one set.

    Args:
        source: Folder with `grid_speakers/`, `cremad_1001/` and `films/`.
        which: `CHOOSING` or one of `FINAL`.
    Raises:
        InputError: The set is not there.
    """
    paths, rows = film_files(source, which), _rows(source)
    if which == "cremad":
        return [_read(path, path.stem.split("_")[0], _CREMAD_SENTENCE) for path in paths]
    if which == "addresses":
        return [_read(path, "address", None) for path in paths]
    named = [(path, rows[path.name]) for path in paths]
    return [_read(path, row["speaker"], row["text"]) for path, row in named]


def film_files(source: Path, which: str) -> list[Path]:
    """The films of one set, as `read_films` says."""
    if which == "cremad":
        paths = sorted((source / "cremad_1001").glob("*.mkv"))
    elif which == "addresses":
        paths = sorted((source / "films").glob("*.mp4"))
    else:
        paths = [
            source / "grid_speakers" / name
            for name, row in _rows(source).items()
            if (row["speaker"] in CHOOSING_SPEAKERS if which == CHOOSING else row["held_out"])
        ]
    if not paths:
        raise InputError(
            f"no films of the set {which!r} under {source}; expected grid_speakers/ with clips.json, "
            "cremad_1001/*.mkv and films/*.mp4 (docs/training.md)"
        )
    return paths


def _rows(source: Path) -> dict[str, dict[str, Any]]:
    """What `clips.json` says of each of GRID's other speakers' clips, by file."""
    index = source / "grid_speakers" / "clips.json"
    return {row["file"]: row for row in json.loads(index.read_text())} if index.exists() else {}


def _read(path: Path, speaker: str, text: str | None) -> UnseenFilm:
    """Read one film; `text` is None where it is not known, and empty for any sentence of GRID."""
    landmarks = []
    for number, frame in enumerate(read_frames(path)):
        faces = face_detector()(frame)
        if not faces:
            raise InputError(f"{path.name}: no face in frame {number}; expected one in every frame")
        landmarks.append(max(faces, key=lambda face: face.size_px).landmarks)
    waveform = fit_sound(read_sound_in_step(path), len(landmarks))
    phones = None
    if text is not None:
        words = text or recognise(waveform, GRID_GRAMMAR)
        phones = align_phones(waveform, words, MELS_PER_FRAME * len(landmarks))
    sound = Sound(log_mel(waveform), waveform)
    return UnseenFilm(path.stem, speaker, sound, held_still(np.stack(landmarks)), phones)


def held_still(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """A moving head `(T, 68, 2)` in pixels as a still one in the pose of its first frame, crop units.

    The similarity between the poses is undone, and what turns and nods of the head do to lips and
    jaw beyond it: both would count as speech.
    """
    crops = stabilise(landmarks)
    pose = crops[:, list(POSE)]
    first = np.broadcast_to(pose[0], pose.shape).copy()
    content = carry(pose, first, crops[:, list(CONTENT)])
    return join_landmarks(pose[0], content - turn_offsets(crops, crops[0]))
