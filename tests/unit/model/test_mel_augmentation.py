from __future__ import annotations

import numpy as np
import torch

from model.data.mel_augmentation import (
    augment,
    reverberate,
    to_log_mel,
    to_power,
    warp_vocal_tract,
)
from model.media.audio import SAMPLE_RATE, SILENCE, log_mel


def make_tones(hertz: float) -> torch.Tensor:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    beats = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time)
    tone = (0.1 * beats * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return torch.from_numpy(log_mel(tone))[None]


def test_power_and_back() -> None:
    mel = make_tones(500.0)
    torch.testing.assert_close(to_log_mel(to_power(mel)), mel, atol=0.2, rtol=0)
    silence = torch.full((1, 8, 80), SILENCE)
    torch.testing.assert_close(to_log_mel(to_power(silence)), silence, atol=1e-4, rtol=0)


def test_the_warp_moves_frequencies_by_its_factor() -> None:
    warped = warp_vocal_tract(to_power(make_tones(1200.0)), torch.tensor([1.2]))
    wanted = to_power(make_tones(1000.0))
    assert abs(int(warped.mean(1).argmax()) - int(wanted.mean(1).argmax())) <= 1
    same = warp_vocal_tract(wanted, torch.ones(1))
    assert int(same.mean(1).argmax()) == int(wanted.mean(1).argmax())


def test_reverberation_never_sounds_before_its_cause() -> None:
    power = torch.zeros(16, 100, 80)
    power[:, 50] = 1.0
    wet = reverberate(power, torch.Generator().manual_seed(0))
    assert float(wet[:, :50].abs().max()) < 1e-6
    assert bool((wet[:, 51:].sum(dim=(1, 2)) > 0).any())


def test_augmentation_is_seeded_finite_and_in_step() -> None:
    mel = make_tones(500.0).repeat(24, 1, 1)
    noise = torch.full_like(mel, -0.5)
    one = augment(mel, noise, torch.Generator().manual_seed(1))
    again = augment(mel, noise, torch.Generator().manual_seed(1))
    assert torch.equal(one, again)
    assert one.shape == mel.shape and bool(torch.isfinite(one).all())
    assert float(one.std(dim=0).mean()) > 0.05  # every sample is another room
    loudness, original = one.mean(dim=2), mel.mean(dim=2)
    r = torch.stack(
        [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(loudness, original, strict=True)]
    )
    assert float(r.median()) > 0.8
