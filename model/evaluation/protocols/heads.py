"""How the heads of unseen photographs move to unseen voices, beside measured heads of a real speaker.

Nothing is drawn: a moved photograph knows its landmarks, and heads are measured on them. Photographs,
voices and real addresses are in one of two halves; every choice is made on `choosing`, and `final` is
read once, at the end. Speed and power of the real heads are scaled to the rms of those beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import resample_poly

from model.data.clips import find_portraits
from model.data.head_tracks import ADDRESSES, face_path, read_addresses
from model.data.sound import read_sound
from model.data.split import voice_held_out
from model.evaluation.metrics.head_motion import MeasuredHead, blink_figures, path_figures
from model.evaluation.options import Half
from model.face.detection import MediaPipeFaceDetector, select_face
from model.face.head_motion import MovedPicture
from model.media.audio import FPS, SAMPLE_RATE
from model.motion.channels import RATE_HZ
from model.motion.head_motion import voice_motion
from model.motion.rhythm import sound_rhythm
from model.networks.head_flow import HeadFlow
from model.pipelines.presets import STRENGTHS

Thing = TypeVar("Thing")
_ON_LEARNT: Final = 8
"""Addresses that the flow was taught with; the others are in the final half."""
_PAUSE_S: Final = 0.6
"""Between two times that a voice says its words."""

TITLES: Final = {
    "photographs": "photographs",
    "voices": "voices",
    "minutes": "minutes",
    "rms": "head, rms (inter-ocular distances)",
    "rms_least": "the same, calmest photograph or stretch",
    "rms_most": "the same, liveliest",
    "roll_sd": "roll, sd (degrees)",
    "speed_p95": "speed, 95th percentile (distances a second)",
    "speed_p95_ratio": "speed / real",
    "power_0.2_ratio": "power 0.2 to 0.4 Hz / real",
    "power_0.4_ratio": "0.4 to 0.8 Hz / real",
    "power_0.8_ratio": "0.8 to 1.6 Hz / real",
    "power_1.6_ratio": "1.6 to 3.2 Hz / real",
    "power_3.2_ratio": "3.2 to 4 Hz / real",
    "speech_over_pauses": "squared speed in speech / in pauses",
    "blinks_per_minute": "blinks a minute",
    "blink_s": "blink, median (s)",
}


def measure_heads(
    flow: HeadFlow,
    source: Path,
    half: Half,
    *,
    photographs: int = 24,
    voices: int = 8,
    seconds: float = 60.0,
) -> dict[str, dict[str, float]]:
    """Real heads, `natural`, `subtle`, and the real ones at the rms of each, to figures by the keys of `TITLES`.

    Args:
        flow: The network that moves heads.
        source: Folder with `portraits/`, `speech/` and `head_motion/`.
        half: Of all the three.
        photographs: How many move.
        voices: How many they share.
        seconds: How long each moves.
    Raises:
        InputError: There are no photographs.
    """
    material = read_material(source, half, photographs, voices, seconds)
    tracks = source / "head_motion" / "weekly_addresses.npz"
    real = real_heads(tracks, half)
    table = {"real heads": path_figures(real, FPS) | real_blinks(tracks, half)}
    for name in ("natural", "subtle"):
        heads = made_heads(flow, material, STRENGTHS[name], seconds)
        figures = path_figures(heads, FPS) | blink_figures(heads, FPS)
        figures |= {"photographs": len(material.faces), "voices": len(material.voices)}
        alike = path_figures(real, FPS, figures["rms"])
        ratios = {
            f"{key}_ratio": figures[key] / alike[key] for key in alike.keys() & figures.keys()
        }
        table[name] = figures | ratios | {"minutes": len(heads) * seconds / 60.0}
        table[f"real, at the rms of {name}"] = alike
    return table


@dataclass(frozen=True)
class Material:
    """What one half holds: landmarks `(68, 2)` and sizes of photographs, and voices `(N,)` by name."""

    faces: dict[str, tuple[NDArray[np.float32], tuple[int, int]]]
    voices: dict[str, NDArray[np.float32]]


def read_material(
    source: Path, half: Half, num_faces: int, num_voices: int, seconds: float
) -> Material:
    """Photographs and voices of a half, evenly over all that there are."""
    is_final = half == "final"
    detector = MediaPipeFaceDetector()
    paths = find_portraits(source / "portraits", held_out=is_final)
    faces = {}
    for path in evenly(paths, num_faces):
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"), np.uint8)
        faces[path.name] = (select_face(detector(image)).landmarks, image.shape[:2])
    files = [
        path
        for path in sorted((source / "speech").glob("*.opus"))
        if voice_held_out(path.stem) == is_final
    ]
    voices = {path.stem: _long(read_sound(path), seconds) for path in evenly(files, num_voices)}
    return Material(faces, voices)


def made_heads(
    flow: HeadFlow, material: Material, strength: float, seconds: float
) -> list[MeasuredHead]:
    """Every photograph says one of the voices; each has a seed of its own."""
    voices = list(material.voices.values())
    heads = []
    for number, (landmarks, (height, width)) in enumerate(material.faces.values()):
        voice = voices[number % len(voices)]
        count = round(seconds * FPS)
        motion = voice_motion(flow, voice, count, FPS, strength=strength, blink=True, seed=number)
        blank = np.zeros((height, width, 3), np.uint8)
        picture = MovedPicture(blank, landmarks, motion, FPS)
        faces = np.stack([picture.landmarks(index) for index in range(count)])
        speaking = _at_frames(sound_rhythm(voice)[:, 0], count)
        openings = motion.lids.mean(axis=1).astype(np.float64)
        heads.append(MeasuredHead(face_path(faces.astype(np.float64)), speaking, openings))
    return heads


def real_heads(tracks: Path, half: Half) -> list[MeasuredHead]:
    """The measured speaker of a half of the addresses."""
    names = ADDRESSES[_ON_LEARNT:] if half == "final" else ADDRESSES[:_ON_LEARNT]
    return [
        MeasuredHead(
            resample_poly(track.path, round(FPS / RATE_HZ), 1, axis=0, padtype="line"),
            np.repeat(track.rhythm[:, 0], round(FPS / RATE_HZ)),
        )
        for track in read_addresses(tracks, names)
    ]


def real_blinks(tracks: Path, half: Half) -> dict[str, float]:
    """What `blink_figures` says of the measured speaker; a blink there lasts while the tracker saw shut lids."""
    names = ADDRESSES[_ON_LEARNT:] if half == "final" else ADDRESSES[:_ON_LEARNT]
    with np.load(tracks) as table:
        spans = np.concatenate([table[f"{name}_blinks"] for name in names])
        frames = sum(int((table[f"{name}_seg"] >= 0).sum()) for name in names)
    lengths = spans[:, 1] - spans[:, 0] + 1
    return {
        "blinks_per_minute": len(spans) / frames * FPS * 60.0,
        "blink_s": float(np.median(lengths)) / FPS,
    }


def _long(voice: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """A voice that says its words again and again."""
    once = np.concatenate([voice, np.zeros(round(_PAUSE_S * SAMPLE_RATE), np.float32)])
    times = int(np.ceil(seconds * SAMPLE_RATE / len(once)))
    return np.tile(once, times)[: round(seconds * SAMPLE_RATE)]


def _at_frames(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Values `(T,)` at 12.5 Hz, at each of `count` frames."""
    own = (np.arange(len(values)) + 0.5) / RATE_HZ
    return np.interp(np.arange(count) / FPS, own, values)


def evenly(things: Sequence[Thing], count: int) -> list[Thing]:
    """`count` of them, or all that there are, spread from the first to the last."""
    chosen = np.unique(np.linspace(0, len(things) - 1, count).astype(int))
    return [things[n] for n in chosen[: len(things)]]
