"""Films of two people who say what is heard, laid out as GRID is, and the shards made of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import soundfile
import torch
from numpy.typing import NDArray

from model.checkpoints import SHIPPED
from model.data.films import PrepareSettings
from model.data.preparation import prepare_set
from model.data.quality import QualityLimits
from model.data.sound import read_sound
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.detection import MediaPipeFaceDetector
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import POSE
from model.face.portrait_engine import PortraitEngine
from model.media.audio import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, log_mel
from model.media.ffmpeg import ffmpeg_path
from model.media.video_writer import VideoWriter
from model.networks.landmark_completion import LandmarkCompleter

ROOT = Path(__file__).parents[3]
FRAMES = 50
SIDE = 240
SEEN, HELD_OUT = "bbaf2n", "bbbm3a"  # as model.data.split has it for these names


def run_ffmpeg(*words: object) -> None:
    command = [ffmpeg_path(), "-y", "-nostdin", "-v", "error", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    return run_ffmpeg


def read_portraits() -> list[NDArray[np.uint8]]:
    portrait = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert portrait is not None
    return [np.ascontiguousarray(portrait[..., ::-1]).astype(np.uint8), skimage.data.astronaut()]


def draw_talking(picture: NDArray[np.uint8], mel: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Frames in which a photograph says `mel`, moving about a little."""
    landmarks = MediaPipeFaceDetector()(picture)[0].landmarks
    affine = crop_affine(landmarks)
    own = warp_points(affine, landmarks)
    completer = LandmarkCompleter.from_pretrained(SHIPPED / "landmark_completer").float()
    face = torch.from_numpy(own)[None, None]
    pose = face[:, :, list(POSE)].expand(1, len(mel) // 4, -1, -1)
    with torch.no_grad():
        said = completer.complete(torch.from_numpy(mel)[None], pose, face)[0].numpy()
    bank = InnerMouthBank.load(SHIPPED / "inner_mouths")
    engine = PortraitEngine(crop_image(picture, affine, SIDE), own, bank)
    frames = []
    for number, target in enumerate(said):
        way = np.float32([(1, 0, 6 * np.sin(number / 9)), (0, 1, 4 * np.cos(number / 7))])
        drawn = engine.render(target, inner="bank")
        moved = cv2.warpAffine(drawn, way, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.asarray(moved, np.uint8))
    return frames


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """s1 says a sentence in a film of each split, s2 in one; beside them a torn and a mute film."""
    folder = tmp_path_factory.mktemp("films")
    sound = folder / "sentence.wav"
    waveform = read_sound(ROOT / "examples" / "speech.wav")[: FRAMES * SAMPLES_PER_FRAME]
    soundfile.write(sound, waveform, SAMPLE_RATE)
    first, second = (draw_talking(picture, log_mel(waveform)) for picture in read_portraits())
    plan = (("s1", SEEN, first), ("s1", HELD_OUT, first), ("s2", SEEN, second))
    for speaker, name, frames in plan:
        (folder / speaker).mkdir(exist_ok=True)
        path = folder / speaker / f"{name}.mp4"
        with VideoWriter(path, width=SIDE, height=SIDE, fps=FPS, sound=sound) as writer:
            for frame in frames:
                writer.write(frame)
    (folder / "s2" / "torn.mp4").write_bytes((folder / "s2" / f"{SEEN}.mp4").read_bytes()[:9000])
    run_ffmpeg("-i", folder / "s2" / f"{SEEN}.mp4", "-an", "-c", "copy", folder / "s2" / "mute.mp4")
    return folder


@pytest.fixture(scope="session")
def settings() -> PrepareSettings:
    limits = QualityLimits(min_s=1.0)
    return PrepareSettings("grid", face_px=64, limits=limits)


@pytest.fixture(scope="session")
def prepared_set(
    films: Path, settings: PrepareSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Folder of the shards and the report."""
    output = tmp_path_factory.mktemp("shards")
    return output, prepare_set(films, output, settings)
