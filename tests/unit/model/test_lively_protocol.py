from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.errors import CheckpointError
from model.evaluation.dlib_identity import DlibIdentity
from model.evaluation.protocols.heads import evenly, made_heads, read_material
from model.evaluation.protocols.lively import NATURAL, STILL, Lively
from model.evaluation.protocols.video import System
from model.face.alignment import crop_affine, crop_image
from model.face.detection import MediaPipeFaceDetector
from model.pipelines.talking_face import TalkingFacePipeline

Image = NDArray[np.uint8]
Waveform = NDArray[np.float32]


def embed(frames: list[Image], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Faces as 16 x 16 pictures about their mean."""
    rows = []
    for frame, face in zip(frames, landmarks, strict=True):
        small = cv2.resize(crop_image(frame, crop_affine(face), 128), (16, 16))
        rows.append((small.astype(np.float32) - small.mean()).ravel())
    vectors = np.array(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_lively_photograph_is_measured_beside_the_still_one(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    system = System("tiny", pipeline, "preview", 0)
    measured = Lively(MediaPipeFaceDetector(), embed)
    frames = measured.add(portrait, speech, 1, system)
    assert len(frames) == 23 and (frames[-1] != frames[0]).any()
    table = measured.figures()
    still, natural = table[STILL], table[NATURAL]
    assert still["outline"] == 0.0 == natural["outline"]
    assert natural["outside_equal"] == 1.0
    assert 0.95 < still["identity"] <= 1.0 and abs(natural["identity_loss"]) < 0.05
    assert 0.8 < natural["cheek"] < 1.2
    assert "stranger" not in still


def test_another_face_is_a_stranger_and_a_smear_is_damage(
    pipeline: TalkingFacePipeline, portrait: Image, speech: Waveform
) -> None:
    class Smearing(System):
        """What a bad compositor would do: the collar goes with the mouth."""

        def draw(self, plan):  # type: ignore[no-untyped-def]
            for frame in super().draw(plan):
                frame[-60:] = 255 - frame[-60:]
                yield frame

    system = Smearing("bad", pipeline, "preview", 0)
    measured = Lively(MediaPipeFaceDetector(), embed)
    measured.add(portrait, speech[:8000], 1, system)
    measured.add(np.ascontiguousarray(portrait[:, ::-1]), speech[:8000], 2, system)
    table = measured.figures()
    assert table[NATURAL]["outline"] == 1.0 == table[STILL]["outline"]
    assert table[STILL]["stranger"] < 0.999


def test_material_is_spread_and_heads_are_measured_without_drawing(
    pipeline: TalkingFacePipeline, portrait: Image, tmp_path: Path
) -> None:
    assert evenly("abcdefg", 3) == ["a", "d", "g"]
    (tmp_path / "portraits").mkdir()
    Pillow.fromarray(portrait).save(tmp_path / "portraits" / "somebody.png")
    (tmp_path / "speech").mkdir()
    material = read_material(tmp_path, "final", 1, 1, 2.0)
    assert list(material.faces) == ["somebody.png"] and not material.voices
    assert pipeline.head_flow is not None
    spoken = dataclasses.replace(material, voices={"voice": np.zeros(32_000, np.float32)})
    (head,) = made_heads(pipeline.head_flow, spoken, 1.0, 2.0)
    assert head.path.shape == (50, 7) and np.abs(head.path - head.path[0]).max() > 0


def test_identity_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.evaluation.dlib_identity.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="--group identity"):
        DlibIdentity()
