"""Real recordings that systems are measured on: frames, sound, and the landmarks found once.

A clip is read at 25 fps and 16 kHz with the sound's start time honoured. Landmarks are found frame
by frame (no tracking filter, so no lag).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.layouts import Layout, Source, find_sources
from model.data.phones import read_phones
from model.data.sound import fit_sound, read_sound, read_sound_in_step
from model.data.split import portrait_held_out, portrait_identity, voice_held_out
from model.errors import InputError, UnsupportedMediaError
from model.face.alignment import warp_points
from model.face.detection import DetectedFace, FaceDetector
from model.face.landmarks import NUM_LANDMARKS, mouth_opening
from model.face.tracking import smooth_crops, track_face
from model.media.audio import FPS, MELS_PER_FRAME, SAMPLES_PER_FRAME, log_mel
from model.media.video_reader import read_frames

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
SOUND_SUFFIXES: Final = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a"})


@dataclass(frozen=True, eq=False)
class Clip:
    """What is known of one recording, without its pictures.

    Attributes:
        name: File name without suffix.
        landmarks: The speaker's face in every frame `(T, 68, 2)`, pixels.
        found: `(T,)`; where no face was found, `landmarks` hold the last one.
        waveform: `(640 T,)`, float32, 16 kHz.
        phones: `(4T,)` of 10 ms (`model.data.phones`), or None where there is no alignment.
    """

    name: str
    landmarks: Points
    found: NDArray[np.bool_]
    waveform: NDArray[np.float32]
    phones: NDArray[np.uint8] | None

    @property
    def num_frames(self) -> int:
        """Video frames T."""
        return len(self.landmarks)

    @property
    def reference(self) -> int:
        """Number of the first frame that shows the face."""
        return int(self.found.argmax())

    @property
    def log_mel(self) -> Points:
        """`(4T, 80)`, standardised."""
        return log_mel(self.waveform)

    @property
    def affines(self) -> Points:
        """Picture pixels to crop units in every frame `(T, 2, 3)`, calmed over time."""
        return smooth_crops(self.landmarks, FPS)

    @property
    def crop_landmarks(self) -> Points:
        """The face in every frame's own crop `(T, 68, 2)`, crop units."""
        return np.stack(list(map(warp_points, self.affines, self.landmarks)))

    @property
    def opening(self) -> NDArray[np.float32]:
        """Real mouth opening `(T,)`; nan where no face was found."""
        return np.where(self.found, mouth_opening(self.landmarks), np.nan).astype(np.float32)


class ClipFrames:
    """The pictures of a clip `(T, H, W, 3)`, uint8 RGB, in memory, read as a video file is."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.num_frames, self.height, self.width = (int(side) for side in frames.shape[:3])
        self.fps = float(FPS)

    def read(self, start: int, stop: int) -> Iterator[Frames]:
        """Frames `start` to `stop`, one at a time, `(H, W, 3)`."""
        yield from self.frames[start:stop]


def find_landmarks(detector: FaceDetector, frames: Iterable[Frames], near: Points) -> Points:
    """The same person's landmarks `(T, 68, 2)` in frames `(H, W, 3)` that a system drew, pixels.

    `near` `(T, 68, 2)` says where that person is; nobody else's face is taken. Nan where there is no face.
    """
    pairs = zip(frames, near, strict=False)
    return np.stack([nearest_face(detector(frame), wanted) for frame, wanted in pairs])


def nearest_face(faces: Sequence[DetectedFace], wanted: Points) -> Points:
    """Landmarks `(68, 2)` of the face around the centre of `wanted` `(68, 2)`; nan where none is."""
    centre, size = wanted.mean(axis=0), float(np.ptp(wanted, axis=0).max())
    for face in faces:
        if float(np.linalg.norm(face.landmarks.mean(axis=0) - centre)) < 0.5 * size:
            return face.landmarks
    return np.full((NUM_LANDMARKS, 2), np.nan, np.float32)


def hold_gaps(landmarks: Points) -> Points | None:
    """`(T, 68, 2)` with nan frames replaced by the nearest face in time; None when all are nan."""
    seen = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    if not len(seen):
        return None
    nearest = np.abs(np.arange(len(landmarks))[:, None] - seen[None]).argmin(axis=1)
    return landmarks[seen[nearest]]


def read_clip(source: Source, detector: FaceDetector, max_frames: int) -> tuple[Clip, ClipFrames]:
    """Read one recording, or the first stretch that its set names, and find its face.

    `phones/<name>.json` beside the video is read where it exists; longer recordings end after `max_frames`.

    Raises:
        UnsupportedMediaError: Not readable as video, or without sound.
        NoFaceError: No frame shows a face.
    """
    path = source.path
    start_s, end_s = source.stretches[0] if source.stretches else (0.0, max_frames / FPS)
    first = round(start_s * FPS)
    last = min(first + max_frames, round(end_s * FPS))
    # Frames of constant rate are counted, so that sound and pictures start at the same moment.
    frames = list(islice(read_frames(path, fps=FPS), first, last))
    if not frames:
        raise UnsupportedMediaError(
            f"{source.name} ends before {start_s:g} s; expected a face there"
        )
    waveform = read_sound_in_step(path, source.sound)[first * SAMPLES_PER_FRAME :]
    track = track_face(frames, detector)
    labels = path.parent / "phones" / f"{path.stem}.json"
    phones = None
    if labels.exists() and not first:
        phones = read_phones(labels, MELS_PER_FRAME * len(frames))
    sound = fit_sound(waveform, len(frames))
    clip = Clip(path.stem, track.landmarks, track.found, sound, phones)
    return clip, ClipFrames(np.stack(frames))


def find_clips(layout: Layout, folder: Path, *, every: bool) -> list[Source]:
    """Real videos of a layout under `folder`, sorted: `every` one, or those that training leaves out.

    Raises:
        InputError: There is none.
    """
    found = find_sources(layout, folder)
    chosen = [source for source in found if every or source.held_out]
    if not chosen:
        raise InputError(
            f"{folder} has {len(found)} videos, none of them left out of training by its name; "
            "expected at least one. Give a folder with more videos, or --every-clip where training "
            "has seen none of these."
        )
    return chosen


def find_portraits(folder: Path, *, held_out: bool = True) -> list[Path]:
    """Photographs of people whom training has not seen: by `index.csv` (file, source, identity), or all without it.

    Args:
        folder: The photographs.
        held_out: False for those of the people whom training has seen.
    Raises:
        InputError: There is none.
    """
    index = folder / "index.csv"
    if index.is_file():
        with index.open(newline="") as file:
            rows = list(csv.DictReader(file))
        wanted = [row for row in rows if portrait_held_out(portrait_identity(row)) == held_out]
        found = sorted(folder / row["file"] for row in wanted)
    else:
        found = _files(folder, PICTURE_SUFFIXES)
    if not found:
        raise InputError(f"{folder} has no photograph of an unseen person; expected at least one")
    return found


def find_large_portraits(source: Path) -> list[Path]:
    """Photographs of unseen people that are large: `portraits/frl_*`, and the others' in `portraits_hd/`.

    Raises:
        InputError: There is none.
    """
    unseen = find_portraits(source / "portraits")
    # A larger file's name begins with the identity, a smaller one's ends with it.
    identities = tuple(f"{path.stem.split('_')[-1]}_" for path in unseen)
    large = sorted((source / "portraits_hd").glob("*.jpg"))
    return [path for path in unseen if path.name.startswith("frl")] + [
        path for path in large if path.name.startswith(identities)
    ]


def read_portrait(path: Path, side_px: int) -> Frames:
    """A photograph `(H, W, 3)` uint8 RGB, no side longer than `side_px`, both even."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((side_px, side_px))
    even = np.asarray(picture)[: picture.height // 2 * 2, : picture.width // 2 * 2]
    return np.ascontiguousarray(even)


def find_voices(folder: Path) -> list[Path]:
    """Recordings of voices that training has not heard, or all where names tell no speakers apart.

    Raises:
        InputError: There is none.
    """
    found = _files(folder, SOUND_SUFFIXES)
    chosen = [path for path in found if voice_held_out(path.name)] or found
    if not chosen:
        raise InputError(f"{folder} has no recording; expected at least one of speech")
    return chosen


def read_voice(path: Path, max_frames: int) -> NDArray[np.float32]:
    """At most `max_frames` video frames of a recording, 16 kHz, whole frames."""
    waveform = read_sound(path)
    if not len(waveform):
        raise UnsupportedMediaError(f"{path.name} holds no sound; expected speech")
    frames = min(max_frames, -(-len(waveform) // SAMPLES_PER_FRAME))
    return fit_sound(waveform, frames)


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with {', '.join(suffixes)} files")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
