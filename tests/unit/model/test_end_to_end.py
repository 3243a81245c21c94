"""Stage 3's road: from the diffusion loss through the landmarks into the completer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from diffusers import DDIMScheduler
from PIL import Image
from scipy.signal import resample_poly

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.detection import MediaPipeFaceDetector
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import CONTENT
from model.face.portrait_engine import PortraitEngine
from model.media.audio import SAMPLE_RATE, log_mel
from model.pipelines.landmark_completion import complete_landmarks
from model.training.shard_windows import ClipWindow
from model.training.stage import Draw
from model.training.stage3_end_to_end import (
    EndToEnd,
    EndToEndConfig,
    diffusion_loss,
    draw_noise,
    scale_gradient,
)

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def networks() -> EndToEnd:
    road = EndToEnd(SHIPPED, "cpu")
    for network in (road.completer, road.unet, road.reference_encoder):
        network.eval()
    return road


@pytest.fixture(scope="module")
def windows(networks: EndToEnd) -> list[ClipWindow]:
    """The example portrait speaks: real motion on a face that no training has seen."""
    image = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"), np.uint8)
    face = MediaPipeFaceDetector()(image)[0].landmarks
    affine = crop_affine(face)
    reference, landmarks = crop_image(image, affine, networks.face_px), warp_points(affine, face)
    sound, rate = soundfile.read(EXAMPLES / "speech.wav", dtype="float32")
    waveform = resample_poly(sound, SAMPLE_RATE, rate).astype(np.float32)
    moving = complete_landmarks(networks.completer, waveform, landmarks)
    mel = log_mel(waveform)
    engine = PortraitEngine(reference, landmarks, InnerMouthBank.load(SHIPPED / INNER_MOUTHS))
    rng = np.random.default_rng(0)
    made = []
    for start in range(0, 96, 6):
        drawn = np.sort(rng.choice(np.arange(4, 12), 2, replace=False))
        faces = moving[start : start + 16]
        pictures = engine.render_many(faces[drawn], inner="bank")
        sound = mel[4 * start : 4 * (start + 16)]
        made.append(ClipWindow(sound, faces, drawn, pictures, reference, landmarks))
    return made


def coordinate_gradient_cosines(
    networks: EndToEnd, windows: list[ClipWindow], draw: Draw, config: EndToEndConfig
) -> torch.Tensor:
    """Does the diffusion loss know where a landmark belongs?

    Lips and jaw are moved by a pixel; the loss's gradient on the coordinates is compared with that
    error, `(B * n,)` cosines. A positive one means that descent leads back: without it stage 3 would
    only add noise to the landmark loss. `config.drop_warped` decides whether warped latents tell the
    truth apart from the landmarks.
    """
    content = list(CONTENT)
    truth = torch.from_numpy(np.concatenate([w.landmarks[w.drawn] for w in windows]))
    error = torch.zeros_like(truth)
    error[:, content] = torch.randn((len(truth), len(content), 2), generator=draw.generator)
    error /= networks.crop_px
    target = (truth + error).requires_grad_()
    noise = draw_noise(networks.unet, len(windows), draw, config)
    loss = diffusion_loss(networks, windows, target, noise, config)
    (gradient,) = torch.autograd.grad(loss, target)
    return torch.cosine_similarity(
        gradient[:, content].flatten(1), error[:, content].flatten(1), dim=1
    )


@pytest.mark.parametrize(
    "drop_warped",
    [
        pytest.param(1.0, id="without-warp", marks=pytest.mark.long),
        pytest.param(0.0, id="with-warp"),
    ],
)
def test_coordinate_gradient_points_along_an_injected_error(
    networks: EndToEnd, windows: list[ClipWindow], drop_warped: float
) -> None:
    config = EndToEndConfig(drop_warped=drop_warped, drop_reference=0.0, every_timestep=False)
    cosines = torch.cat(
        [
            coordinate_gradient_cosines(networks, windows, Draw.at(0, step), config)
            for step in range(2)
        ]
    )
    assert len(cosines) >= 64
    assert float(cosines.mean()) > 0.1


def test_diffusion_loss_reaches_the_completer_unless_the_road_is_cut(
    networks: EndToEnd, windows: list[ClipWindow]
) -> None:
    config = EndToEndConfig(drop_warped=0.0)
    few = windows[:2]
    heads = ("open_head", "phone_head")  # auxiliary: they shape no landmark
    for gain in (1.0, 0.0):
        networks.completer.zero_grad()
        target = scale_gradient(networks.complete(few), gain)
        noise = draw_noise(networks.unet, len(few), Draw.at(0, 0), config)
        diffusion_loss(networks, few, target, noise, config).backward()
        reached = {
            name: parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            for name, parameter in networks.completer.named_parameters()
            if not name.startswith(heads)
        }
        assert set(reached.values()) == {gain > 0}, reached
        for network in (networks.unet, networks.reference_encoder):
            assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_scaled_gradient_keeps_the_values() -> None:
    points = torch.randn(3, 2, requires_grad=True)
    scaled = scale_gradient(points, 0.25)
    torch.testing.assert_close(scaled, points)
    scaled.sum().backward()
    torch.testing.assert_close(points.grad, torch.full((3, 2), 0.25))


def test_the_schedule_is_not_built_again_for_a_loss(
    networks: EndToEnd, windows: list[ClipWindow], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a schedule was built")

    config, few = EndToEndConfig(), windows[:1]
    target = networks.complete(few).detach()
    noise = draw_noise(networks.unet, len(few), Draw.at(0, 0), config)
    monkeypatch.setattr(DDIMScheduler, "__init__", refuse)
    assert diffusion_loss(networks, few, target, noise, config).isfinite()
