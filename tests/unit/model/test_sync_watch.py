"""Finished frames are looked at: lips that say the sound are told from those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from model.face.detection import MediaPipeFaceDetector
from model.face.mesh_follower import MeshFollower
from model.networks.sync_network import SyncNetwork, load_sync_network
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import Reference, RenderPlan
from model.pipelines.sync_watch import SyncScore, SyncWatch
from model.pipelines.talking_face import load_pipeline
from worker.render_request import read_rgb

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NUM_FRAMES = 50


@pytest.fixture(scope="module")
def network() -> SyncNetwork:
    return load_sync_network()


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return read_rgb(EXAMPLES / "portrait.jpg")


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="float32")
    return np.asarray(resample_poly(samples, 16_000, rate_hz), np.float32)


@pytest.fixture
def plan(portrait: NDArray[np.uint8]) -> RenderPlan:
    """A photograph whose mouth does not move."""
    face = MediaPipeFaceDetector()(portrait)[0]
    still = Reference.of(portrait, face.landmarks)
    return RenderPlan(
        image=portrait,
        crop_affine=still.crop_affine,
        reference_landmarks=still.landmarks,
        target_landmarks=np.repeat(still.landmarks[None], NUM_FRAMES, axis=0),
        face_bbox_xyxy=face.bbox_xyxy,
        fps=25.0,
        preset="preview",
        num_inference_steps=0,
        init="noise",
        seed=0,
        restore_detail=False,
        batch_size=8,
    )


def test_a_mouth_that_does_not_move_is_seen(
    network: SyncNetwork,
    plan: RenderPlan,
    portrait: NDArray[np.uint8],
    speech: NDArray[np.float32],
) -> None:
    watch = SyncWatch(network, plan, speech[: NUM_FRAMES * 640], MeshFollower())

    for first in range(0, NUM_FRAMES, 10):
        watch.watch(first, np.repeat(portrait[None], 10, axis=0))
    score = watch.score()

    assert score is not None
    assert score.watched_s == 1.6
    assert score.agreement < 0.2
    assert score.confidence < 0.15


@pytest.mark.parametrize("kind", ["nobody speaks", "too short", "no face"])
def test_what_tells_nothing_gets_no_score(
    network: SyncNetwork, plan: RenderPlan, speech: NDArray[np.float32], kind: str
) -> None:
    heard = {
        "nobody speaks": np.zeros(NUM_FRAMES * 640, np.float32),
        "too short": speech[: 20 * 640],
        "no face": speech[: NUM_FRAMES * 640],
    }[kind]
    watch = SyncWatch(network, plan, heard, MeshFollower())

    watch.watch(0, np.full((NUM_FRAMES, *plan.image.shape), 90, np.uint8))

    assert watch.score() is None


@pytest.mark.long
def test_lips_that_were_drawn_for_a_sound_agree_with_it_and_no_other(
    network: SyncNetwork, portrait: NDArray[np.uint8], speech: NDArray[np.float32]
) -> None:
    pipeline = load_pipeline()
    plan = pipeline.prepare(portrait, speech, RenderOptions(preset="preview", motion="natural"))
    late = np.roll(speech, 3200)
    watches = [
        SyncWatch(network, plan, heard, MeshFollower())
        for heard in (speech, late, speech[::-1].copy())
    ]
    done = 0
    for frames in pipeline.render(plan):
        for watch in watches:
            watch.watch(done, frames)
        done += len(frames)

    own, moved, other = (_score(watch) for watch in watches)

    assert own.agreement > 0.4
    assert own.offset_ms == 0
    assert moved.offset_ms == -200
    assert max(moved.agreement, other.agreement) < 0.2


def _score(watch: SyncWatch) -> SyncScore:
    score = watch.score()
    assert score is not None
    return score
