"""What the judges see in the frames of one system, and the figures of a row.

    frames ─▶ detector ─▶ landmarks ─▶ LMD, opening, closure      ┐
           └▶ the clip's crop and mask ─▶ PSNR, SSIM, sharpness   ├▶ Observation, one a clip ─▶ row
    sound + landmarks ─▶ sync network ─▶ matching, LSE-C, LSE-D   ┘

Landmarks are found again in the drawn frames: what counts is what can be seen, not what was meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.data.clips import Clip, find_landmarks, hold_gaps
from model.errors import CheckpointError
from model.evaluation.downloaded_networks import (
    IdentityEmbedder,
    PerceptualDistance,
    PictureFeatures,
    SyncNet,
    frechet_distance,
)
from model.evaluation.metrics.landmarks import closure_rate, mouth_figures
from model.evaluation.metrics.pictures import FaceWindow, mouth_sharpness, psnr, ssim
from model.face.alignment import fit_similarity, warp_points
from model.face.detection import FaceDetector
from model.face.landmarks import LEFT_EYE, LIPS, POSE, RIGHT_EYE, mouth_opening
from model.media.audio import log_mel
from model.networks.sync_network import SyncNetwork, load_sync_network

Frames = NDArray[np.uint8]
Points = NDArray[np.float32]

MAX_OFFSET: Final = 15
"""Frames that sound and lips are shifted against each other for LSE."""
_SYNC_EDGE: Final = 19  # frames that the sync network needs beyond the greatest offset
_SHEET_COLUMNS: Final = 6


@dataclass(frozen=True)
class Judges:
    """Everything that judges: our sync network, and for FID, LPIPS, CSIM and the original SyncNet.

    The detector finds landmarks in real and drawn frames alike. What is None is skipped; `skipped` says
    why, and how to give it.
    """

    detector: FaceDetector
    sync: SyncNetwork | None = None
    features: PictureFeatures | None = None
    lpips: PerceptualDistance | None = None
    identity: IdentityEmbedder | None = None
    syncnet: SyncNet | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Observation:
    """One system's frames of one clip.

    Landmarks found `(T, 68, 2)` in pixels, nan where there was no face; figures `(T,)` and of the whole
    clip by name; features for FID `(T, D)`, or None; mouth and chin of six frames `(6, s, s, 3)`.
    """

    landmarks: Points
    per_frame: dict[str, NDArray[np.float64]]
    scores: dict[str, float]
    features: Points | None
    sheet: Frames

    @property
    def opening(self) -> NDArray[np.float32]:
        """Mouth opening `(T,)`, nan where there was no face."""
        return mouth_opening(self.landmarks)


class Observer:
    """Compares frames with one clip's real ones `(T, H, W, 3)`, in crops of `crop_px` (None = the face's size)."""

    def __init__(
        self, clip: Clip, real: Frames, judges: Judges, crop_px: int | None = None
    ) -> None:
        self.clip, self.real, self.judges = clip, real, judges
        self.window = FaceWindow(clip.affines, clip.landmarks, crop_px)
        self._real_crops = np.stack(self.window.crops(real))

    def observe_real(self, waveform: NDArray[np.float32] | None = None) -> Observation:
        """The real video as a system of its own, judged against `waveform` (None = its own sound)."""
        landmarks = np.where(self.clip.found[:, None, None], self.clip.landmarks, np.nan)
        return self._judge(self.real, landmarks.astype(np.float32), waveform, is_real=True)

    def observe(
        self, frames: Iterable[Frames], waveform: NDArray[np.float32] | None = None
    ) -> Observation:
        """Judge a system's frames `(H, W, 3)`, as many as the clip has or fewer.

        They should say `waveform`, 16 kHz; None = the clip's own sound.
        """
        drawn = np.stack(list(frames))[: self.clip.num_frames]
        landmarks = find_landmarks(self.judges.detector, drawn, self.clip.landmarks)
        return self._judge(drawn, landmarks, waveform, is_real=False)

    def _judge(
        self,
        frames: Frames,
        landmarks: Points,
        waveform: NDArray[np.float32] | None,
        *,
        is_real: bool,
    ) -> Observation:
        judges, mask = self.judges, self.window.mask
        crops = np.stack(self.window.crops(frames))
        real = self._real_crops[: len(crops)]
        # In the real lips' box, so that blur is not excused by a smaller mouth.
        sharp = [
            mouth_sharpness(own, points) / max(mouth_sharpness(frame, points), 1e-9)
            for frame, own, points in zip(self.real, frames, self.clip.landmarks, strict=False)
        ]
        values = {"sharpness": np.array(sharp, np.float64)}
        if not is_real:
            rows = [
                (psnr(ours, theirs, mask), psnr(ours, theirs), *ssim(ours, theirs, mask))
                for ours, theirs in zip(crops, real, strict=True)
            ]
            keys = ("psnr_mask", "psnr_face", "ssim_face", "ssim_mask")
            values |= dict(zip(keys, np.array(rows).T, strict=True))
        if judges.lpips is not None and not is_real:
            values["lpips"] = judges.lpips(crops, real).astype(np.float64)
        if judges.identity is not None:
            held = self.clip.landmarks[: len(frames)]
            reference = judges.identity([self.real[0]], self.clip.landmarks[:1])
            values["csim"] = (judges.identity(list(frames), held) @ reference[0]).astype(np.float64)
        sound = self.clip.waveform if waveform is None else waveform
        return Observation(
            landmarks=landmarks,
            per_frame=values,
            scores=sync_figures(judges, frames, landmarks, sound),
            features=None if judges.features is None else judges.features(crops),
            sheet=sheet_tiles(crops, self.clip.opening),
        )


def sheet_tiles(
    crops: Frames, opening: NDArray[np.float32], photograph: Frames | None = None
) -> Frames:
    """Mouth and chin `(6, s, s, 3)` of crops `(T, S, S, 3)`: of each sixth the one whose mouth should be widest.

    The wanted opening is `(T,)` or longer, nan where it is not known; a photograph `(S, S, 3)` is shown
    in place of the first frame.
    """
    side, wanted = crops.shape[1], np.nan_to_num(opening[: len(crops)])
    across, down = slice(round(0.2 * side), round(0.8 * side)), slice(round(0.4 * side), side)
    edges = np.linspace(0, len(crops), _SHEET_COLUMNS + 1).astype(int)
    starts = np.minimum(edges[:-1], len(crops) - 1)
    stops = np.maximum(edges[1:], starts + 1)
    chosen = [a + int(wanted[a:b].argmax()) for a, b in zip(starts, stops, strict=True)]
    tiles = crops[chosen]
    if photograph is not None:
        tiles[0] = photograph
    return tiles[:, down, across]


def sync_figures(
    judges: Judges, frames: Frames, landmarks: Points, waveform: NDArray[np.float32]
) -> dict[str, float]:
    """How sound, 16 kHz, and mouth fit together in frames `(T, H, W, 3)`, uint8 RGB at 25 fps.

    Of landmarks `(T, 68, 2)` in pixels; gaps hold the nearest face.

    Returns:
        `sync_matching`, `lse_c`, `lse_d`, `sync_offset`, and the original SyncNet's `syncnet_lse_c`
        and `syncnet_lse_d`, as far as there is a judge, a face and enough frames.
    """
    held = hold_gaps(landmarks)
    if held is None:
        return {}
    scores: dict[str, float] = {}
    mel = log_mel(waveform)
    frames_heard = min(len(mel) // 4, len(held))
    held, mel = held[:frames_heard], mel[: 4 * frames_heard]
    if judges.sync is not None and frames_heard > _SYNC_EDGE:
        found = judges.sync.sync_scores(mel, held, min(MAX_OFFSET, frames_heard - _SYNC_EDGE))
        scores["sync_matching"] = judges.sync.matching(mel, held)
        scores["lse_c"], scores["lse_d"] = found.confidence, found.distance
        scores["sync_offset"] = float(found.offset_frames)
    if judges.syncnet is not None and frames_heard > MAX_OFFSET + 5:
        pictures = frames[:frames_heard]
        lse_c, lse_d = judges.syncnet.scores(pictures, held, waveform, MAX_OFFSET)
        scores["syncnet_lse_c"], scores["syncnet_lse_d"] = lse_c, lse_d
    return scores


def lay_on(face: Points, other: Points) -> Points:
    """`face` `(68, 2)` moved onto `other` by the similarity of their pose points."""
    return warp_points(fit_similarity(face[list(POSE)], other[list(POSE)]), face)


def lip_distance(drawn: Points, real: Points) -> NDArray[np.float32]:
    """Landmark distance (LMD): mean of the 20 lip points `(T,)`, a share of the real inter-ocular distance.

    The drawn face `(T, 68, 2)` is first laid on the real one by its pose points, so that where the head
    is and the detector's common error do not count. Nan where either has no face.
    """
    distances = np.full(len(drawn), np.nan, np.float32)
    for index, (own, wanted) in enumerate(zip(drawn, real, strict=True)):
        if not (np.isfinite(own).all() and np.isfinite(wanted).all()):
            continue
        laid = lay_on(own, wanted)
        eyes = wanted[list(LEFT_EYE)].mean(axis=0) - wanted[list(RIGHT_EYE)].mean(axis=0)
        gaps = np.linalg.norm(laid[list(LIPS)] - wanted[list(LIPS)], axis=-1)
        distances[index] = gaps.mean() / np.linalg.norm(eyes)
    return distances


def mean_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every figure over the rows that have it and where it is finite."""
    columns: dict[str, list[float]] = {}
    for key, value in (item for row in rows for item in row.items()):
        columns.setdefault(key, []).append(value)
    finite = {key: [x for x in values if np.isfinite(x)] for key, values in columns.items()}
    return {key: float(np.mean(values)) if values else math.nan for key, values in finite.items()}


def row_figures(clips: Sequence[Clip], seen: Sequence[Observation]) -> dict[str, float]:
    """Figures of one system over all clips, of one observation each, by the names of `report.TITLES`."""
    figures: dict[str, float] = {}
    # 1. what can be averaged
    for key in dict.fromkeys(name for one in seen for name in one.per_frame):
        rows = np.concatenate([one.per_frame[key] for one in seen])
        if np.isfinite(rows).any():  # equal frames have an infinite PSNR
            figures[key] = float(rows[np.isfinite(rows)].mean())
    figures |= mean_figures([one.scores for one in seen])
    if "sync_offset" in figures:
        offsets = [one.scores["sync_offset"] for one in seen if "sync_offset" in one.scores]
        figures["sync_offset"] = float(np.median(offsets))

    # 2. the mouth against the real one
    real = [clip.opening[: len(one.landmarks)] for clip, one in zip(clips, seen, strict=True)]
    drawn = [one.opening for one in seen]
    figures["faces_found"] = float(np.isfinite(np.concatenate(drawn)).mean())
    figures.update(mouth_figures(drawn, real))
    distances = [
        lip_distance(one.landmarks, clip.landmarks[: len(one.landmarks)])
        for clip, one in zip(clips, seen, strict=True)
    ]
    figures["lmd"] = float(np.nanmean(np.concatenate(distances)))
    spoken = [
        (np.nan_to_num(opening, nan=1.0), clip.phones[: 4 * len(opening)])
        for opening, clip in zip(drawn, clips, strict=True)
        if clip.phones is not None
    ]
    if spoken:
        figures["closure"] = closure_rate([o for o, _ in spoken], [p for _, p in spoken])
    return figures


def fid(seen: Sequence[Observation], real: Sequence[Observation]) -> float | None:
    """Fréchet distance of a system's crops from the real ones, None without features."""
    ours = [one.features for one in seen if one.features is not None]
    theirs = [one.features for one in real if one.features is not None]
    if not ours or not theirs:
        return None
    return frechet_distance(np.concatenate(ours), np.concatenate(theirs))


def load_judges(
    detector: FaceDetector,
    *,
    fid_features: Path | None = None,
    lpips: Path | None = None,
    identity: Path | None = None,
    syncnet: Path | None = None,
) -> Judges:
    """Load what there is of TorchScript files (`downloaded_networks`), and our sync network.

    `skipped` says what there is not.

    Raises:
        CheckpointError: A file that was given cannot be used.
    """
    skipped = []
    networks: dict[str, Any] = {}
    try:
        own: SyncNetwork | None = load_sync_network()
    except CheckpointError as error:
        own = None
        skipped.append(f"sync figures: {error}")
    for key, path, kind, option in (
        ("features", fid_features, PictureFeatures, "--fid-features"),
        ("lpips", lpips, PerceptualDistance, "--lpips"),
        ("identity", identity, IdentityEmbedder, "--identity"),
        ("syncnet", syncnet, SyncNet, "--syncnet"),
    ):
        if path is not None:
            networks[key] = kind(path)
        else:
            skipped.append(
                f"{kind.purpose}: needs a downloaded network; give its TorchScript file as {option}"
            )
    return Judges(detector, own, skipped=tuple(skipped), **networks)
