"""One film becomes tracks: decode, follow the faces, judge them, bring sound and lips in step, cut.

The film is decoded twice, once to find the faces and once to cut those that are kept, so memory holds
one frame and the coded crops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.data.layouts import Layout, Source
from model.data.phones import UNKNOWN_PHONE, read_phones
from model.data.quality import QualityLimits, Reason, find_offset, sharpness, why_not
from model.data.shards import MARGIN, Track, TrackData, encode_picture, stored_picture
from model.data.sound import read_sound_in_step
from model.data.tracks import FaceTrack, face_detector, find_tracks
from model.face.alignment import warp_points
from model.face.tracking import smooth_crops
from model.media.audio import FPS, MELS_PER_FRAME, SAMPLES_PER_FRAME, log_mel
from model.media.video_reader import read_frames
from model.networks.sync_network import SyncNetwork, load_sync_network

_SHARPNESS_EVERY: Final = 5  # frames
_SHARPNESS_PX: Final = 128  # to a crop unit


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the shards' content: layout, and what a track must have.

    `face_px` are the pixels of a stored picture in one crop unit, the largest crops that lose nothing;
    tracks longer than `max_s` are divided.
    """

    layout: Layout
    face_px: int = 128
    max_s: float = 20.0
    limits: QualityLimits = field(default_factory=QualityLimits)

    @property
    def stored_px(self) -> int:
        """Side of the stored pictures."""
        return round(MARGIN * self.face_px)


@dataclass(frozen=True)
class Drop:
    """A part of a film that was left out: why, its first frame (-1: scattered over the film), how many."""

    reason: Reason
    first: int
    frames: int


@dataclass
class FilmReport:
    """What became of one film.

    Attributes:
        frames: Looked at, 25 a second.
        kept: Frames of the tracks that were kept.
        dropped: What was left out.
        shifted: Tracks whose sound was moved: key to frames (positive: the lips were late).
        error: Why nothing could be done with the film.
    """

    frames: int = 0
    kept: int = 0
    dropped: list[Drop] = field(default_factory=list)
    shifted: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class _Kept:
    """A piece of a track whose pictures are to be cut; `offset` as in `FilmReport.shifted`."""

    track: FaceTrack
    affines: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    log_mel: NDArray[np.float32]
    offset: int


@cache
def _sync_network() -> SyncNetwork:
    torch.set_num_threads(1)
    return load_sync_network()


def prepare_film(source: Source, settings: PrepareSettings) -> tuple[list[TrackData], FilmReport]:
    """Find, judge and cut the tracks of one film.

    Raises:
        UnsupportedMediaError: It cannot be decoded, has no picture or no sound.
    """
    report = FilmReport()
    waveform = read_sound_in_step(source.path, source.sound)
    seen = find_tracks(read_frames(source.path, fps=FPS), face_detector(), _wanted(source))
    report.frames = seen.num_frames
    if seen.num_empty:
        report.dropped.append(Drop("no face", -1, seen.num_empty))
    kept: list[_Kept] = []
    for track in seen.tracks:
        pieces = _judge(track, seen.tracks, waveform, settings)
        if isinstance(pieces, list):
            kept += pieces
        else:
            report.dropped.append(Drop(pieces, track.first, len(track)))
    frames = _cut(source, kept, settings.stored_px)
    phones = read_phones(
        source.path.parent / "phones" / f"{source.path.stem}.json",
        MELS_PER_FRAME * len(waveform) // SAMPLES_PER_FRAME,
    )
    tracks: list[TrackData] = []
    for piece, (pictures, sharp) in zip(kept, frames, strict=True):
        if sharp < settings.limits.min_sharpness:
            report.dropped.append(Drop("blurred", piece.track.first, len(piece.track)))
            continue
        key = f"{source.name}#{len(tracks)}"
        row = Track(key, source.identity, len(piece.track), source.held_out)
        heard = MELS_PER_FRAME * (piece.track.first - piece.offset)
        said = _stretch(phones, heard, MELS_PER_FRAME * len(piece.track), UNKNOWN_PHONE)
        tracks.append(TrackData(row, pictures, piece.landmarks, piece.log_mel, said))
        report.kept += len(piece.track)
        if piece.offset:
            report.shifted[key] = piece.offset
    return tracks, report


def _wanted(source: Source) -> NDArray[np.bool_] | None:
    """Which frames of a film are looked at; None for all."""
    if not source.stretches:
        return None
    wanted = np.zeros(round(max(end for _, end in source.stretches) * FPS), bool)
    for start, end in source.stretches:
        wanted[round(start * FPS) : round(end * FPS)] = True
    return wanted


def _judge(
    track: FaceTrack,
    others: list[FaceTrack],
    waveform: NDArray[np.float32],
    settings: PrepareSettings,
) -> list[_Kept] | Reason:
    """The pieces of a track, in step with their sound, or why there are none."""
    # 1. place and size
    if len(track) < settings.limits.min_s * FPS:
        return "too short"
    points = track.landmarks
    affines = smooth_crops(points, FPS)
    reason = why_not(track, affines, others, settings.limits)
    if reason is not None:
        return reason
    landmarks = np.stack(list(map(warp_points, affines, points)))

    # 2. sound
    mel = _mel(waveform, track.first, len(track))
    offset: int | None = 0
    if settings.limits.min_confidence > 0:
        offset = find_offset(_sync_network(), mel, landmarks, settings.limits)
    if offset is None:
        return "sound does not match"
    if offset:
        mel = _mel(waveform, track.first - offset, len(track))

    # 3. pieces of equal length
    count = -(-len(track) // max(1, round(settings.max_s * FPS)))
    bounds = np.linspace(0, len(track), count + 1).round().astype(int).tolist()
    return [
        _Kept(
            track.piece(start, stop),
            affines[start:stop],
            landmarks[start:stop],
            mel[MELS_PER_FRAME * start : MELS_PER_FRAME * stop],
            offset,
        )
        for start, stop in pairwise(bounds)
    ]


def _mel(waveform: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
    """Log-mel `(4 count, 80)` of the sound under `count` frames from `first` on."""
    return log_mel(_stretch(waveform, SAMPLES_PER_FRAME * first, SAMPLES_PER_FRAME * count, 0))


def _stretch(values: NDArray[Any], start: int, count: int, filling: int) -> NDArray[Any]:
    """`count` values from `start` on, `filling` where there are none."""
    stretch = np.full(count, filling, values.dtype)
    low, high = max(start, 0), min(start + count, len(values))
    if low < high:
        stretch[low - start : high - start] = values[low:high]
    return stretch


def _cut(source: Source, pieces: list[_Kept], stored_px: int) -> list[tuple[list[bytes], float]]:
    """Coded pictures of every piece, and its median sharpness."""
    pictures: list[list[bytes]] = [[] for _ in pieces]
    details: list[list[float]] = [[] for _ in pieces]
    side = round(MARGIN * _SHARPNESS_PX)
    end = max((piece.track.first + len(piece.track) for piece in pieces), default=0)
    if end:
        for number, frame in enumerate(islice(read_frames(source.path, fps=FPS), end)):
            for index, piece in enumerate(pieces):
                at = number - piece.track.first
                if not 0 <= at < len(piece.track):
                    continue
                picture = stored_picture(frame, piece.affines[at], stored_px)
                pictures[index].append(encode_picture(picture))
                if at % _SHARPNESS_EVERY == 0:
                    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
                    details[index].append(sharpness(np.asarray(small, np.uint8)))
    return [
        (frames, float(np.median(detail))) for frames, detail in zip(pictures, details, strict=True)
    ]
