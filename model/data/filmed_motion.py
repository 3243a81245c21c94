"""What the lips and jaw of a filmed speaker do: crop units, free of the head's own motion.

    pixels ─▶ crop, steadied ─▶ carried to the clip's mean pose, S_t^-1 ─▶ without nods and turns

People open their mouths by 0.16 to 0.44 of its width for the same words, and no voice tells by how
much. `population_gains` says by how much each speaker's motion is multiplied to be the population's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.face.alignment import crop_affine, warp_points
from model.face.landmarks import CONTENT, NOSE_AND_EYES, POSE, join_landmarks, mouth_opening
from model.networks.landmark_completion import fit_similarity

Points = NDArray[np.float32]

_POSE_SMOOTHING: Final = 2.0  # frames, standard deviation of the zero-phase filter
_TILT_MODES: Final = 4
_SHUT: Final = 0.02  # lip gap over mouth width
_WIDE: Final = 95  # percentile of the opening that stands for a speaker's amplitude


def carry(source: Points, target: Points, points: Points) -> Points:
    """Apply the similarity that carries pose `source` `(T, 37, 2)` to `target`, one or T, to `points`."""
    wanted = torch.from_numpy(np.broadcast_to(target, source.shape).copy())
    linear, shift = fit_similarity(torch.from_numpy(source), wanted)
    moved: Points = (
        torch.from_numpy(points) @ linear.transpose(-1, -2) + shift[..., None, :]
    ).numpy()
    return moved


def smooth(points: Points, sigma: float) -> Points:
    """Zero-phase Gaussian over time, `(T, ...)`, ends mirrored."""
    return np.asarray(gaussian_filter1d(points, sigma, axis=0, mode="mirror", truncate=3.0))


def stabilise(landmarks: Points) -> Points:
    """Crop units for every frame of a clip, `(T, 68, 2)` pixels -> `(T, 68, 2)`.

    Pose points are smoothed before the crop is fitted: otherwise the detector's noise on the eyes
    would become motion of the lips.
    """
    steady = landmarks.copy()
    steady[:, list(POSE)] = smooth(landmarks[:, list(POSE)], _POSE_SMOOTHING)
    return np.stack([warp_points(crop_affine(frame), frame) for frame in steady])


def clip_motion(landmarks: Points) -> dict[str, Points]:
    """One clip `(T, 68, 2)` in pixels -> crop landmarks, mean pose, content there, and tilt."""
    crop = stabilise(landmarks)
    pose = crop[:, list(POSE)]
    mean_pose = pose.mean(axis=0)
    content = carry(pose, mean_pose, crop[:, list(CONTENT)])
    there = carry(pose, mean_pose, crop[:, list(NOSE_AND_EYES)])
    return {
        "landmarks": crop,
        "pose": mean_pose,
        "content": content,
        "tilt": (there - there.mean(axis=0)).reshape(len(there), -1),
    }


def shut_frames(opening: Points) -> NDArray[np.bool_]:
    """Frames of a clip `(T,)` whose mouth is shut, or nearest to it."""
    return opening <= max(_SHUT, float(np.quantile(opening, 0.1)))


def without_tilt(content: Points, tilt: Points, opening: Points) -> tuple[Points, float]:
    """Take away what nods and turns of the head do to lips and jaw beyond a similarity.

    A nod brings the mouth nearer to the eyes. What it does is learnt on shut mouths from the rigid
    points' own displacements: else it would be taken for speech, and a frame for another place of
    the mouth.

    Args:
        content: `(N, T, 31, 2)`, carried to each clip's mean pose.
        tilt: `(N, T, D)`, displacements of rigid points there.
        opening: `(N, T)`.
    Returns:
        The same without tilt, and the share of the shut mouths' variance that it explained.
    """
    _, _, axes = np.linalg.svd(tilt.reshape(-1, tilt.shape[-1])[::7], full_matrices=False)
    modes = tilt @ axes[:_TILT_MODES].T  # (N, T, K)
    inputs, outputs = [], []
    for mode, place, gap in zip(modes, content, opening, strict=True):
        shut = shut_frames(gap)
        inputs.append(mode[shut] - mode[shut].mean(axis=0))
        outputs.append((place[shut] - place[shut].mean(axis=0)).reshape(shut.sum(), -1))
    x, y = np.concatenate(inputs), np.concatenate(outputs)
    gain = np.linalg.solve(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]), x.T @ y)
    explained = 1.0 - float(((y - x @ gain) ** 2).sum() / (y**2).sum())
    steady = content - (modes @ gain).reshape(content.shape)
    return steady.astype(np.float32), explained


def motion_of_clips(landmarks: Points) -> tuple[dict[str, Points], float]:
    """The motion of clips of one length.

    Args:
        landmarks: `(N, T, 68, 2)`, pixels.
    Returns:
        `landmarks` `(N, T, 68, 2)`, each frame in its own crop; `pose` `(N, 37, 2)`, the clip's mean;
        `content` `(N, T, 31, 2)`, lips and jaw carried to it, without nods and turns; `closed`
        `(N, 31, 2)`, the clip's shut mouth there. And the share of the shut mouths' variance that
        nods and turns explained.
    """
    clips = [clip_motion(clip) for clip in landmarks]
    motion = {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}
    opening = mouth_opening(motion["landmarks"])
    motion["content"], explained = without_tilt(motion["content"], motion.pop("tilt"), opening)
    motion["closed"] = np.stack(
        [
            np.median(content[shut_frames(gap)], axis=0).astype(np.float32)
            for content, gap in zip(motion["content"], opening, strict=True)
        ]
    )
    return motion, explained


def amplitude(pose: Points, content: Points) -> float:
    """How far a speaker opens the mouth: 95th percentile of the opening over all his clips.

    Of pose `(N, 37, 2)` and content `(N, T, 31, 2)`.
    """
    opening = mouth_opening(join_landmarks(pose[:, None], content))
    return float(np.percentile(opening, _WIDE))


def population_gains(amplitudes: Mapping[str, float], clips: Mapping[str, int]) -> dict[str, float]:
    """Factor that brings each speaker's motion to the population's amplitude.

    Args:
        amplitudes: By speaker, those that are trained on.
        clips: How many clips of each there are; the amplitude of one clip is believed half.
    """
    population = float(np.mean(list(amplitudes.values())))
    return {
        speaker: (population / own) ** (clips[speaker] / (clips[speaker] + 1.0))
        for speaker, own in amplitudes.items()
    }
