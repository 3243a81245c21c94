"""Training of the detail network: its material, its losses, and that it learns to use the warp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.checkpoints import INNER_MOUTHS, SHIPPED
from model.data.subjects import Subject
from model.errors import ConfigError
from model.face.alignment import invert_affine, warp_points
from model.face.average_face import AVERAGE_FACE
from model.networks.detail import DetailNetwork, enlarge
from model.networks.pixels import to_tensor
from model.training.builders.detail_pairs import MOVED, PHOTOGRAPH, draw_subject
from model.training.launch import launch, load_stage
from model.training.stage4_detail import DetailConfig, build, lip_boxes, textures

ROOT = Path(__file__).resolve().parents[3]


def material(folder: Path, kinds: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    """Noise that the warp shows and the drawn picture has lost."""
    rng = np.random.default_rng(0)
    count = 4 * len(kinds)
    target = rng.integers(60, 190, (count, 32, 48, 3)).astype(np.uint8)
    small = target.reshape(count, 16, 2, 24, 2, 3).mean(axis=(2, 4)).astype(np.uint8)
    np.savez(
        folder / "detail.npz",
        drawn=small,
        target=target,
        warped=target + 1,
        landmarks=np.repeat(AVERAGE_FACE[None], count, axis=0) * 32 - np.float32([4, 16]),
        kind=np.repeat(np.array(kinds, np.int32), 4),
        held_out=np.tile([False, False, False, True], len(kinds)),
    )
    return folder


def settings(folder: Path, **changed: object) -> DetailConfig:
    values = {
        "prepared": folder,
        "output": folder / "run",
        "max_steps": 150,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "width": 8,
        "rows": 16,
        "columns": 24,
        "warmup_steps": 2,
        "judged_from": 5,
        "light": 0.0,
        "ema_decay": 0.9,
        "num_threads": 1,
        "mixed_precision": "no",
        "save_every": 150,
        "sample_every": 150,
        **changed,
    }
    return DetailConfig(**values)  # type: ignore[arg-type]


@pytest.mark.long
def test_it_learns_to_take_detail_from_the_warp(tmp_path: Path) -> None:
    config = settings(material(tmp_path))
    assert launch(build, config)
    trained = DetailNetwork.from_pretrained(
        tmp_path / "run" / "export" / "detail", low_cpu_mem_usage=False
    )
    data = np.load(tmp_path / "detail.npz")
    unseen = data["held_out"]
    drawn, warped, target = (to_tensor(data[n][unseen]) for n in ("drawn", "warped", "target"))
    with torch.no_grad():
        error = (trained(drawn, warped) - target).abs().mean()
    assert error < 0.8 * (enlarge(drawn) - target).abs().mean()
    assert (tmp_path / "run" / "samples" / "000150.png").is_file()


def test_a_run_may_begin_with_another_runs_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = DetailNetwork((8, 16, 24))
    with torch.no_grad():
        first.conv_out.weight.normal_()
    first.save_pretrained(tmp_path / "first")
    stage = build(settings(material(tmp_path), start=tmp_path / "first"), "cpu")
    begun = stage.modules["detail"].state_dict()
    assert all(torch.equal(begun[name], value) for name, value in first.state_dict().items())


def test_a_kind_without_samples_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no other_photographs"):
        build(settings(material(tmp_path, kinds=(0, 1, 2))), "cpu")


def test_the_discriminator_sees_no_colours() -> None:
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(textures(flat), torch.zeros_like(flat))
    stripes = torch.tensor([1.0, -1.0]).repeat(16).expand(1, 3, 32, 32)
    assert textures(stripes)[..., 8:-8].abs().min() > 0.8


def test_lip_boxes_hold_the_lips() -> None:
    face = AVERAGE_FACE * 128 - np.float32([16, 48])
    [box] = lip_boxes(face[None], 80, 96)
    top, bottom, left, right = box
    lips = face[48:60]
    assert top < lips[:, 1].min() < lips[:, 1].max() < bottom <= 80
    assert left < lips[:, 0].min() < lips[:, 0].max() < right <= 96
    assert (bottom - top) * (right - left) < 80 * 96 / 4


def test_talkface_train_knows_the_stage() -> None:
    assert load_stage(4).CONFIG is DetailConfig


def test_a_photograph_becomes_pairs(portrait: NDArray[np.uint8]) -> None:
    affine = np.array([[1 / 300, 0, -0.05], [0, 1 / 300, -0.1]], np.float32)
    face = warp_points(invert_affine(affine), AVERAGE_FACE)
    motion = np.repeat(AVERAGE_FACE[None], 5, axis=0)
    motion[:, 55:60, 1] += np.linspace(0, 0.08, 5)[:, None].astype(np.float32)
    motion[:, 65:68, 1] += np.linspace(0, 0.08, 5)[:, None].astype(np.float32)
    path = ROOT / "examples" / "portrait.jpg"
    subject = Subject((path,), (face,), (motion,), False, 0)
    drawn = draw_subject((subject, SHIPPED, SHIPPED / INNER_MOUTHS))
    assert drawn is not None
    assert drawn.drawn.shape == (3, 96, 96, 3)
    assert drawn.target.shape == drawn.warped.shape == (3, 192, 192, 3)
    assert set(drawn.kind.tolist()) <= {MOVED, PHOTOGRAPH}
    # What was drawn and what it should be are the same picture, but for what the mask hides.
    half = drawn.target.reshape(3, 96, 2, 96, 2, 3).mean(axis=(2, 4))
    assert np.abs(half - drawn.drawn).mean() < 12
    assert PHOTOGRAPH in drawn.kind  # its teeth are real ones
