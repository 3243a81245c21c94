"""Face tracks on disk: a few safetensors files that are mapped into memory, never loaded whole.

    <folder>/shard-00000.safetensors
        frames     (bytes,)        uint8    JPEG pictures, one after another
        offsets    (N + 1,)        int64    where each picture begins
        landmarks  (N, 68, 2)      float32  crop units; a frame's crop is its own
        log_mel    (4 N, 80)       float16
        phones     (4 N,)          uint8    `UNKNOWN_PHONE` where nobody has labelled them
        metadata   format, margin, stored_px, tracks (JSON: key, identity, frames, held_out),
                   made_from (JSON: sources and settings, by which preparation resumes)

A stored picture shows the crop with a margin on all sides, so that training can jitter it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from model.data.phones import UNKNOWN_PHONE
from model.errors import ShapeError, UnsupportedMediaError
from model.face.alignment import Affine, crop_image, warp_points
from model.face.landmarks import NUM_LANDMARKS
from model.media.audio import MELS_PER_FRAME, N_MELS

FORMAT: Final = "talkface-tracks-1"
MARGIN: Final = 1.25
"""Side of the stored picture in crop units: 0.125 more than the crop on every side."""
JPEG_QUALITY: Final = 95


@dataclass(frozen=True)
class Track:
    """One face, followed through one shot.

    Attributes:
        key: Unique: the source's path within its set, `#`, the number of the track in it.
        identity: Whose face it is, as far as the set says.
        num_frames: At 25 a second.
        held_out: Never trained on.
    """

    key: str
    identity: str
    num_frames: int
    held_out: bool


@dataclass(frozen=True)
class TrackData:
    """What a shard holds of one track.

    Attributes:
        track: Its row in the table.
        frames: JPEG pictures of `stored_px` x `stored_px`, one per frame.
        landmarks: `(T, 68, 2)` float32, crop units.
        log_mel: `(4 T, 80)`, standardised.
        phones: `(4 T,)` uint8, `UNKNOWN_PHONE` where there is no label.
    """

    track: Track
    frames: Sequence[bytes]
    landmarks: NDArray[np.float32]
    log_mel: NDArray[np.floating[Any]]
    phones: NDArray[np.uint8]

    def __post_init__(self) -> None:
        count = self.track.num_frames
        got = (len(self.frames), self.landmarks.shape, self.log_mel.shape, self.phones.shape)
        mels = MELS_PER_FRAME * count
        expected = (count, (count, NUM_LANDMARKS, 2), (mels, N_MELS), (mels,))
        if got != expected or count == 0:
            raise ShapeError(
                f"track {self.track.key} has (frames, landmarks, log_mel, phones) of shapes {got}; "
                f"expected {expected} for its {count} frames, at least one"
            )


def stored_picture(image: NDArray[np.uint8], affine: Affine, stored_px: int) -> NDArray[np.uint8]:
    """Cut one frame's crop with its margin: `(H, W, 3)` -> `(stored_px, stored_px, 3)`, uint8 RGB.

    `affine` is frame pixels to crop units.
    """
    widened = affine / np.float32(MARGIN)
    widened[:, 2] += np.float32((MARGIN - 1) / 2 / MARGIN)
    return crop_image(image, widened, stored_px)


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Code a stored picture as JPEG."""
    coded, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert coded
    return bytes(jpeg)


def write_shard(
    path: Path, tracks: Sequence[TrackData], *, stored_px: int, made_from: dict[str, Any]
) -> None:
    """Write one shard, `<folder>/shard-<number>.safetensors`; it appears under its name when it is complete.

    There may be no tracks (nothing of the sources was good enough). `made_from` is what decided the
    content, for `read_made_from`.
    """
    frames = [jpeg for data in tracks for jpeg in data.frames]
    tensors: dict[str, NDArray[Any]] = {
        "frames": np.frombuffer(b"".join(frames), np.uint8),
        "offsets": np.cumsum([0, *map(len, frames)], dtype=np.int64),
        "landmarks": _join([d.landmarks for d in tracks], (NUM_LANDMARKS, 2), np.float32),
        "log_mel": _join([d.log_mel for d in tracks], (N_MELS,), np.float16),
        "phones": _join([d.phones for d in tracks], (), np.uint8),
    }
    metadata = {
        "format": FORMAT,
        "margin": str(MARGIN),
        "stored_px": str(stored_px),
        "tracks": json.dumps([asdict(data.track) for data in tracks]),
        "made_from": json.dumps(made_from, sort_keys=True),
    }
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors, metadata))
    os.replace(partial, path)


def _join(parts: Sequence[NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    if not parts:
        return np.zeros((0, *shape), dtype)
    # safetensors writes memory as it lies: a transposed array would be written transposed.
    return np.ascontiguousarray(np.concatenate(parts), dtype)


def read_made_from(path: Path) -> dict[str, Any]:
    """What `write_shard` was told about a shard's making.

    Raises:
        UnsupportedMediaError: `path` is no whole shard of this format.
    """
    made_from: dict[str, Any] = json.loads(_read_metadata(path)["made_from"])
    return made_from


def read_tracks(path: Path) -> list[TrackData]:
    """All tracks of one shard, in the order in which they were written.

    Raises:
        UnsupportedMediaError: `path` is no whole shard of this format.
    """
    rows = json.loads(_read_metadata(path)["tracks"])
    tensors = load_file(path)
    tracks = [Track(**row) for row in rows]
    ends = np.cumsum([0, *(track.num_frames for track in tracks)])
    data: list[TrackData] = []
    for track, (first, stop) in zip(tracks, pairwise(ends), strict=True):
        here, mels = slice(first, stop), slice(MELS_PER_FRAME * first, MELS_PER_FRAME * stop)
        bounds = tensors["offsets"][first : stop + 1]
        frames = [tensors["frames"][a:b].tobytes() for a, b in pairwise(bounds)]
        arrays = (tensors["landmarks"][here], tensors["log_mel"][mels], tensors["phones"][mels])
        data.append(TrackData(track, frames, *arrays))
    return data


def _read_metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise UnsupportedMediaError(
            f"{path} is not a whole safetensors file: {error}. Delete it and prepare again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise UnsupportedMediaError(
            f"{path} has format {metadata.get('format')!r}; expected {FORMAT!r}. "
            "Delete it and prepare again."
        )
    return metadata


@dataclass(frozen=True)
class _Place:
    """Where a track lies: its shard's path and stored side, and the number of its first frame."""

    path: Path
    stored_px: int
    first: int


class ClipShards:
    """The tracks of a folder of shards, where `talkface prepare` has written.

    Cheap to build (only headers are read), safe to hand to other processes (files are opened on
    first use, in each of them).

    Raises:
        FileNotFoundError: No shard lies there.
        UnsupportedMediaError: A shard is broken or of another format.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("shard-*.safetensors"))
        if not paths:
            raise FileNotFoundError(
                f"{folder} holds no shard-*.safetensors; expected a folder that "
                "`talkface prepare` has written"
            )
        places: list[tuple[Track, _Place]] = []
        for path in paths:
            metadata = _read_metadata(path)
            first = 0
            for row in json.loads(metadata["tracks"]):
                track = Track(**row)
                places.append((track, _Place(path, int(metadata["stored_px"]), first)))
                first += track.num_frames
        places.sort(key=lambda pair: pair[0].key)
        self.folder = folder
        self.tracks = [track for track, _ in places]
        self._places = [place for _, place in places]
        self._files: dict[tuple[int, Path], Any] = {}

    def __len__(self) -> int:
        return len(self.tracks)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def _rows(self, name: str, index: int, start: int, stop: int) -> NDArray[Any]:
        """Rows of one tensor of the shard in which track `index` lies."""
        path = self._places[index].path
        slot = (os.getpid(), path)
        if slot not in self._files:
            self._files[slot] = safe_open(path, framework="numpy")
        rows: NDArray[Any] = self._files[slot].get_slice(name)[start:stop]
        return rows

    def _whole(self, name: str, index: int, per_frame: int = 1) -> NDArray[Any]:
        first, count = self._places[index].first, self.tracks[index].num_frames
        return self._rows(name, index, per_frame * first, per_frame * (first + count))

    def landmarks(self, index: int) -> NDArray[np.float32]:
        """Landmarks of a track `(T, 68, 2)`, crop units; a frame's crop is its own."""
        return self._whole("landmarks", index)

    def log_mel(self, index: int) -> NDArray[np.float32]:
        """Log-mel of a track `(4 T, 80)`, float32, standardised."""
        return self._whole("log_mel", index, MELS_PER_FRAME).astype(np.float32)

    def phones(self, index: int) -> NDArray[np.uint8]:
        """Phone indices of a track `(4 T,)`, `UNKNOWN_PHONE` where there is no label."""
        phones: NDArray[np.uint8] = self._whole("phones", index, MELS_PER_FRAME)
        assert phones.size == 0 or phones.max() <= UNKNOWN_PHONE
        return phones

    def crops(
        self, index: int, frames: Sequence[int], *, size: int, jitter: Affine | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Crops of some frames of a track, in any order, and their landmarks.

        Args:
            index: Of the track.
            frames: Numbers of the frames, 0 to `num_frames - 1`.
            size: Side of the crops in pixels.
            jitter: `(2, 3)`, crop units to crop units (`jitter_affine` of the identity), for pictures and
                landmarks alike; None leaves them as they are.
        Returns:
            Pictures `(n, size, size, 3)` uint8 RGB and landmarks `(n, 68, 2)` float32, crop units.
        Raises:
            IndexError: A frame is outside the track.
        """
        place, count = self._places[index], self.tracks[index].num_frames
        outside = [frame for frame in frames if not 0 <= frame < count]
        if outside:
            raise IndexError(
                f"frames {outside} of track {self.tracks[index].key}; expected 0 to {count - 1}"
            )
        moved = np.eye(2, 3, dtype=np.float32) if jitter is None else jitter
        # From pixels of a stored picture to its crop, and on to the jittered one.
        scale, shift = MARGIN / place.stored_px, np.full(2, -(MARGIN - 1) / 2, np.float32)
        affine = np.column_stack([moved[:, :2] * np.float32(scale), warp_points(moved, shift)])
        pictures = np.empty((len(frames), size, size, 3), np.uint8)
        landmarks = np.empty((len(frames), NUM_LANDMARKS, 2), np.float32)
        for row, frame in enumerate(frames):
            number = place.first + frame
            start, stop = self._rows("offsets", index, number, number + 2).tolist()
            stored = cv2.imdecode(self._rows("frames", index, start, stop), cv2.IMREAD_COLOR)
            assert stored is not None, f"frame {frame} of {self.tracks[index].key} is no JPEG"
            rgb = np.ascontiguousarray(stored[..., ::-1]).astype(np.uint8)
            pictures[row] = crop_image(rgb, affine, size)
            landmarks[row] = self._rows("landmarks", index, number, number + 1)[0]
        return pictures, warp_points(moved, landmarks)
