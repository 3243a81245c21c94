"""One voice becomes many: changes of speaker, microphone and room, made on log-mels.

Everything works on power and returns to the log afterwards, so that the floor of `log_mel` stays
where it is. Nothing moves in time: labels stay in step.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F

from model.media.audio import LOG_MEL_MEAN, LOG_MEL_STD, N_MELS, POWER_FLOOR, SAMPLE_RATE

_REVERB_FRAMES: Final = 40  # of 10 ms


def to_power(log_mel: torch.Tensor) -> torch.Tensor:
    """Standardised log-mel -> mel power; what lies on the floor becomes 0."""
    return (10.0 ** (log_mel * LOG_MEL_STD + LOG_MEL_MEAN) - POWER_FLOOR).clamp_min(0.0)


def to_log_mel(power: torch.Tensor) -> torch.Tensor:
    """Mel power -> standardised log-mel."""
    return (power.clamp_min(POWER_FLOOR).log10() - LOG_MEL_MEAN) / LOG_MEL_STD


def _hz_to_mel(hertz: torch.Tensor) -> torch.Tensor:
    """Slaney's scale, librosa's default: linear to 1 kHz, logarithmic above."""
    log_part = 15.0 + torch.log(hertz.clamp_min(1.0) / 1000.0) * (
        27.0 / torch.log(torch.tensor(6.4))
    )
    return torch.where(hertz < 1000.0, hertz * 3.0 / 200.0, log_part)


def _mel_to_hz(mel: torch.Tensor) -> torch.Tensor:
    log_part = 1000.0 * torch.exp((mel - 15.0) * torch.log(torch.tensor(6.4)) / 27.0)
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, log_part)


_TOP_MEL: Final = float(_hz_to_mel(torch.tensor(SAMPLE_RATE / 2.0)))
_CENTRES_HZ: Final = _mel_to_hz(torch.arange(1, N_MELS + 1) * (_TOP_MEL / (N_MELS + 1)))


def warp_vocal_tract(power: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Stretch the frequency axis: `(B, F, 80)` by `factor` `(B,)`; above 1 is a longer throat."""
    wanted = _hz_to_mel(_CENTRES_HZ[None] * factor[:, None]) * ((N_MELS + 1) / _TOP_MEL) - 1.0
    position = wanted.clamp(0.0, N_MELS - 1.001)
    low = position.floor().long()
    part = (position - low)[:, None]
    log_power = (power + 1e-9).log()
    index = low[:, None].expand(power.shape)
    mixed = log_power.gather(2, index) * (1 - part) + log_power.gather(2, index + 1) * part
    return (mixed.exp() - 1e-9).clamp_min(0.0)


def _uniform(batch: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.empty(batch, 1, 1).uniform_(low, high, generator=generator)


def _chance(batch: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(batch, 1, 1, generator=generator) < probability).float()


def colour(power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Another microphone: tilt, three slow waves over frequency, gain; now and then a narrow band."""
    batch = len(power)
    axis = torch.linspace(-1.0, 1.0, N_MELS)[None, None]
    gain = _uniform(batch, -0.7, 0.7, generator) * axis + _uniform(batch, -0.35, 0.25, generator)
    for waves in (1.0, 2.0, 3.5):
        phase = _uniform(batch, 0.0, 6.28, generator)
        gain = gain + _uniform(batch, 0.0, 0.25, generator) * torch.sin(waves * 3.14 * axis + phase)
    # telephones and low bit rates: 6 % lose lows and highs, 10 % the highs
    telephone = _chance(batch, 0.06, generator)
    low_pass = _chance(batch, 0.10, generator)
    edge = _uniform(batch, 3400.0, 7000.0, generator)
    edge = telephone * 3600.0 + (1 - telephone) * edge
    octaves_above = (torch.log2(_CENTRES_HZ)[None, None] - torch.log2(edge)).clamp_min(0.0)
    octaves_below = (8.2 - torch.log2(_CENTRES_HZ)[None, None]).clamp_min(0.0)
    gain = gain - 12.0 * octaves_above * torch.maximum(telephone, low_pass)
    gain = gain - 4.0 * octaves_below * telephone
    return power * 10.0**gain


def reverberate(power: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A room's tail on three samples of ten: energy decays over 0.1–0.8 s."""
    batch, frames, _ = power.shape
    wet = _chance(batch, 0.3, generator) * _uniform(batch, 0.05, 0.5, generator)
    decay = 10.0 ** (-0.06 / _uniform(batch, 0.1, 0.8, generator))  # per 10 ms, 60 dB in T60
    kernel = decay ** torch.arange(1, _REVERB_FRAMES + 1)[None, None]
    kernel = kernel / kernel.sum(dim=-1, keepdim=True)
    rows = power.transpose(1, 2).reshape(1, batch * N_MELS, frames)
    filters = kernel.flip(-1).expand(batch, N_MELS, -1).reshape(batch * N_MELS, 1, -1)
    tail = F.conv1d(F.pad(rows, (_REVERB_FRAMES, 0))[..., :-1], filters, groups=batch * N_MELS)
    return (1 - wet) * power + wet * tail.view(batch, N_MELS, frames).transpose(1, 2)


def mask_patches(log_mel: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """SpecAugment, lightly: one band of up to 10 mels, one gap of up to 60 ms, a third of the time."""
    batch, frames, _ = log_mel.shape
    level = log_mel.mean(dim=(1, 2), keepdim=True)
    mels = torch.arange(N_MELS)[None, None]
    start = _uniform(batch, 0, N_MELS, generator)
    width = _uniform(batch, 1, 10, generator) * _chance(batch, 0.3, generator)
    hidden = (mels >= start) & (mels < start + width)
    times = torch.arange(frames)[None, :, None]
    start = _uniform(batch, 0, frames, generator)
    width = _uniform(batch, 1, 6, generator) * _chance(batch, 0.3, generator)
    hidden = hidden | ((times >= start) & (times < start + width))
    return torch.where(hidden, level, log_mel)


def augment(log_mel: torch.Tensor, noise: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Another voice in another room.

    Args:
        log_mel: `(B, F, 80)`, standardised.
        noise: `(B, F, 80)`, standardised, added to six samples in ten at 0–30 dB below the speech.
        generator: Source of all draws.
    """
    batch = len(log_mel)
    power = to_power(log_mel)
    factor = 1.0 + torch.empty(batch).uniform_(-0.20, 0.22, generator=generator)
    power = reverberate(warp_vocal_tract(power, factor), generator)
    hiss = to_power(noise)
    ratio = power.mean(dim=(1, 2), keepdim=True) / hiss.mean(dim=(1, 2), keepdim=True).clamp_min(
        1e-9
    )
    share = 10.0 ** -_uniform(batch, 0.0, 3.0, generator) * _chance(batch, 0.6, generator)
    power = colour(power + ratio * share * hiss, generator)
    return mask_patches(to_log_mel(power), generator)
