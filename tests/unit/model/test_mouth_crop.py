"""Crops of mouths: where they lie, what is drawn of them, and that a pipeline of such networks draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.errors import CheckpointError
from model.face.alignment import lower_face_mask, warp_points
from model.face.average_face import AVERAGE_FACE
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import CONTENT, LIPS, MOUTH_CORNERS
from model.face.mouth_crop import network_affine, network_mask
from model.networks.unet import TalkFormerUNet
from model.pipelines.options import RenderOptions
from model.pipelines.talking_face import TalkingFacePipeline

CELLS = 24


def opened(by: float) -> NDArray[np.float32]:
    face = AVERAGE_FACE.copy()
    face[[*range(55, 60), *range(65, 68), *range(4, 13)], 1] += by
    return face


def test_a_crop_of_a_face_is_the_face() -> None:
    np.testing.assert_array_equal(
        network_affine("face", AVERAGE_FACE, AVERAGE_FACE), np.eye(2, 3, dtype=np.float32)
    )
    np.testing.assert_array_equal(
        network_mask("face", AVERAGE_FACE, 32), lower_face_mask(AVERAGE_FACE, 32)
    )


def test_the_mouth_takes_half_of_its_crop_and_has_room_to_open() -> None:
    width = float(np.ptp(AVERAGE_FACE[list(MOUTH_CORNERS), 0]))
    wide_open = opened(0.5 * width)
    lips = warp_points(network_affine("mouth", wide_open, AVERAGE_FACE), wide_open)[list(LIPS)]
    assert np.ptp(lips[:, 0]) == pytest.approx(0.54, abs=0.02)
    mask = network_mask("mouth", wide_open, CELLS)
    rows, columns = (np.floor(lips[:, axis] * CELLS).astype(int) for axis in (1, 0))
    assert mask[rows, columns].all()
    assert not mask[:4].any() and not mask[-4:].any() and not mask[:, :4].any()
    assert mask.mean() == pytest.approx((16 / 24) ** 2)


def test_the_crop_stays_where_the_mouth_moves_and_goes_where_the_head_turns() -> None:
    still = network_affine("mouth", AVERAGE_FACE, AVERAGE_FACE)
    spoken = AVERAGE_FACE.copy()
    spoken[list(CONTENT)] += 0.03
    np.testing.assert_array_equal(network_affine("mouth", spoken, AVERAGE_FACE), still)
    turned = AVERAGE_FACE + np.float32([0.02, 0.0])
    moved = network_affine("mouth", turned, AVERAGE_FACE)
    np.testing.assert_allclose(
        warp_points(moved, turned), warp_points(still, AVERAGE_FACE), atol=1e-5
    )


@pytest.fixture(scope="module")
def mouths(build_tiny: Callable[[], TalkingFacePipeline]) -> TalkingFacePipeline:
    """The tiny pipeline, its denoiser one of mouths."""
    face = build_tiny()
    unet = TalkFormerUNet(
        channels=(32, 32, 64), token_width=32, crop="mouth", latent_size=CELLS,
        window=(0, 0, CELLS, CELLS),
    )  # fmt: skip
    unet.load_state_dict(face.unet.state_dict())
    pipeline = TalkingFacePipeline(
        face.autoencoder, unet, face.reference_encoder, face.landmark_completer, face.scheduler,
        face.detail,
    )  # fmt: skip
    pipeline.inner_mouths = InnerMouthBank.load(SHIPPED / INNER_MOUTHS)
    return pipeline


def test_the_networks_draw_the_inner_mouth_alone(
    mouths: TalkingFacePipeline, portrait: NDArray[np.uint8], speech: NDArray[np.float32]
) -> None:
    plan = mouths.prepare(portrait, speech, RenderOptions(preset="fast", num_inference_steps=1))
    carried = mouths.prepare(portrait, speech, RenderOptions(preset="preview"))
    openest = int((plan.target_landmarks[:, 66, 1] - plan.target_landmarks[:, 62, 1]).argmax())
    drawn, kept = (
        next(iter(mouths.render(x, openest, openest + 1)))[0].astype(int) for x in (plan, carried)
    )
    changed = np.abs(drawn - kept).max(axis=2) > 12
    assert changed.sum() > 50
    rows, columns = np.nonzero(changed)
    face = warp_points(plan.affine(0), np.stack([columns, rows], axis=1).astype(np.float32) + 0.5)
    lips = plan.target_landmarks[openest, list(LIPS)]
    assert (face >= lips.min(axis=0) - 0.02).all() and (face <= lips.max(axis=0) + 0.02).all()
    assert mouths.networks.crop_px == 96


def test_a_whole_lower_face_is_refused(
    mouths: TalkingFacePipeline, portrait: NDArray[np.uint8], speech: NDArray[np.float32]
) -> None:
    plan = mouths.prepare(portrait, speech, RenderOptions(region="lower_face"))
    with pytest.raises(CheckpointError, match="draws mouths; region is 'lower_face'"):
        next(iter(mouths.render(plan, 0, 1)))
