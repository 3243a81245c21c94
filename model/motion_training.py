"""Teach the flow of heads, `model.networks.head_flow`; minutes on one core of a CPU.

    python -m model.motion_training tracks=TRACKS.npz films=[GRID.npz,SPEAKERS.npz] output=runs/head_flow

    addresses: measured heads, no sound ─▶ rhythm of the mouth ─┐  mirrored, re-timed,
    GRID speakers: landmarks and sound  ─▶ rhythm of the sound ─┴─ each channel louder or calmer ─▶ windows

    1. the flow            windows, some beginning with samples that are known
    2. the equaliser       spectra of heads that it moves, against those of the teachers

What is written is a network of half a million numbers. No track is in it, and no one person's manner:
what is asked of it, `model.motion.head_path` mixes anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import welch

from model.data.head_tracks import ADDRESSES, HeadTrack, read_addresses, read_films
from model.motion.channels import MIRRORED, RATE_HZ, to_pushes
from model.motion.head_path import BANDS_HZ, KNOWN, WINDOW, equalise, unequalised_path
from model.networks.head_flow import NUM_CHANNELS, HeadFlow
from model.training.config import run_program

_READER_WINDOW: Final = 36
"""Samples of a window of a GRID clip, which has 38."""
_READER_KNOWN: Final = 12
_READERS: Final = 0.15
"""Of the batches are of people who read aloud."""
_READER_SHARE: Final = 0.8
"""Of the addresses' motion that they are scaled to: theirs is small, and half of it is the tracker's noise."""
_RETIMED: Final = 0.2
"""A window is up to exp of this faster or slower."""
_LOUDER: Final = (0.25, 0.15)
"""Standard deviation of the logarithm of a window's gain, of all channels and of each."""
_GOES_ON: Final = 0.8
"""Of the windows go on from known samples."""
_EMA: Final = 0.998
_SPECTRUM: Final = 128  # samples
_PASSES: Final = 4
_GAINS: Final = (0.1, 3.0)


@dataclass(frozen=True)
class MotionConfig:
    """A flow of heads.

    Attributes:
        tracks: Table of measured heads (`data/head_motion` of the training data).
        films: Prepared GRID clips, arrays of landmarks and log-mel.
        output: Folder of the network.
        addresses: How many of the addresses are learnt from; the others are for figures.
        minutes: Processor time.
        batch_size: Windows.
        learning_rate: At the beginning; falls to nothing as a cosine.
        seed: Of everything.
    """

    tracks: Path
    films: tuple[Path, ...]
    output: Path = Path("runs/head_flow")
    addresses: int = 8
    minutes: float = 13.0
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Windows:
    """A batch: pushes `(B, L, 7)`, standardised; rhythm `(B, L, 2)`; how many may be known; who."""

    pushes: torch.Tensor
    rhythm: torch.Tensor
    most_known: int
    manner: float


def draw_window(
    track: HeadTrack, length: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pushes `(L, 7)` and rhythm `(L, 2)` of a stretch, mirrored or not, re-timed, louder or calmer."""
    speed = math.exp(random.uniform(-_RETIMED, _RETIMED))
    speed = min(speed, (len(track.path) - 1) / length)
    begin = random.uniform(0.0, len(track.path) - 1 - speed * (length - 1))
    places, own = begin + speed * np.arange(length), np.arange(len(track.path))
    path, rhythm = (
        np.stack([np.interp(places, own, column) for column in values.T], axis=1)
        for values in (track.path, track.rhythm)
    )
    path = path * (MIRRORED if random.random() < 0.5 else 1.0)
    path = path * np.exp(
        random.normal(0.0, _LOUDER[0]) + random.normal(0.0, _LOUDER[1], NUM_CHANNELS)
    )
    pushes = to_pushes(path)
    pushes[0] = pushes[1]  # a window does not begin at rest
    return pushes, rhythm


def draw_batches(
    addresses: Sequence[HeadTrack],
    films: Sequence[HeadTrack],
    scale: NDArray[np.float64],
    batch_size: int,
    random: np.random.Generator,
) -> Iterator[Windows]:
    """Batches without end; long tracks are drawn from more often."""
    lengths = np.array([len(track.path) for track in addresses], np.float64)
    while True:
        if random.random() < _READERS:
            chosen = [films[n] for n in random.integers(len(films), size=2 * batch_size)]
            length, most_known, manner = _READER_WINDOW, _READER_KNOWN, 1.0
        else:
            picks = random.choice(len(addresses), batch_size, p=lengths / lengths.sum())
            chosen = [addresses[n] for n in picks]
            length, most_known, manner = WINDOW, KNOWN, 0.0
        drawn = [draw_window(track, length, random) for track in chosen]
        pushes = torch.from_numpy(np.stack([pushes for pushes, _ in drawn]) / scale).float()
        rhythm = torch.from_numpy(np.stack([rhythm for _, rhythm in drawn])).float()
        yield Windows(pushes, rhythm, most_known, manner)


def flow_loss(flow: HeadFlow, windows: Windows) -> torch.Tensor:
    """Squared error of the velocity where samples are not known; rectified flow, arXiv 2209.03003."""
    batch, length, _ = windows.pushes.shape
    is_known = torch.zeros(batch, length)
    is_known[torch.rand(batch) < _GOES_ON, : windows.most_known] = 1.0
    moment = torch.sigmoid(torch.randn(batch))
    noise = torch.randn_like(windows.pushes)
    state = torch.lerp(noise, windows.pushes, moment[:, None, None])
    manner = torch.full((batch,), windows.manner)
    velocity = flow(state, moment, windows.pushes, is_known, windows.rhythm, manner)
    error = (velocity - (windows.pushes - noise)).square().mean(dim=-1)
    unknown = 1.0 - is_known
    return (error * unknown).sum() / unknown.sum()


def train(flow: HeadFlow, batches: Iterator[Windows], minutes: float, learning_rate: float) -> None:
    """Teach `flow` in place; what stays is the running mean of its weights."""
    optimizer = torch.optim.AdamW(flow.parameters(), learning_rate, (0.9, 0.98), weight_decay=0.01)
    mean = {name: value.clone() for name, value in flow.state_dict().items()}
    began, losses = time.process_time(), list[float]()
    flow.train()
    while (done := (time.process_time() - began) / (60.0 * minutes)) < 1.0:
        warm = min(1.0, (len(losses) + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * done) + 0.01)
        loss = flow_loss(flow, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        share = 1.0 - min(_EMA, len(losses) / (len(losses) + 20))
        for name, value in flow.state_dict().items():
            mean[name].lerp_(value, share)
        if len(losses) % 100 == 0:
            print(
                f"{len(losses):6d} steps, {done:4.0%}, loss {np.mean(losses[-100:]):.3f}",
                flush=True,
            )
    flow.load_state_dict(mean)
    flow.eval()


def fit_equaliser(flow: HeadFlow, tracks: Sequence[HeadTrack], seeds: int = 3) -> None:
    """Set `flow.band_gain`, so that heads which it moves have the tracks' spectrum.

    Few steps of a flow round off what is fast.
    """
    long_tracks = [track for track in tracks if len(track.path) >= _SPECTRUM]
    real = _mean_spectrum([track.path for track in long_tracks])
    made = [
        unequalised_path(flow, track.rhythm, seed + 1000 * number)
        for number, track in enumerate(long_tracks)
        for seed in range(seeds)
    ]
    frequencies = np.fft.rfftfreq(_SPECTRUM, 1.0 / RATE_HZ)
    band = np.searchsorted(np.sqrt(np.array(BANDS_HZ[:-1]) * BANDS_HZ[1:]), frequencies)
    gain = np.ones((NUM_CHANNELS, len(BANDS_HZ)))
    for _ in range(_PASSES):  # neighbouring bands overlap
        heard = _mean_spectrum([equalise(path, gain) for path in made])
        for number in range(len(BANDS_HZ)):
            here = band == number
            gain[:, number] *= np.sqrt(real[here].sum(axis=0) / heard[here].sum(axis=0))
        gain = np.clip(gain, *_GAINS)
    flow.band_gain.copy_(torch.from_numpy(gain))


def _mean_spectrum(paths: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Power `(F, 7)` of paths, long ones counting more."""
    spectra = [welch(path, RATE_HZ, nperseg=_SPECTRUM, axis=0)[1] for path in paths]
    return np.average(spectra, axis=0, weights=[len(path) for path in paths])


def main(config: MotionConfig) -> None:
    """Read, teach, equalise, write."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    # 1. what is learnt from, all of a scale
    addresses = read_addresses(config.tracks, ADDRESSES[: config.addresses])
    films = read_films(*config.films)
    scale = np.concatenate([to_pushes(track.path)[1:] for track in addresses]).std(axis=0)
    film_scale = np.concatenate([to_pushes(track.path)[1:] for track in films]).std(axis=0)
    films = [track.scaled(_READER_SHARE * scale / film_scale) for track in films]
    # 2. the flow
    flow = HeadFlow()
    flow.push_scale.copy_(torch.from_numpy(scale))
    batches = draw_batches(addresses, films, scale, config.batch_size, random)
    train(flow, batches, config.minutes, config.learning_rate)
    # 3. the equaliser
    fit_equaliser(flow, addresses)
    print(np.array2string(flow.band_gain.numpy(), precision=2))
    flow.half().save_pretrained(config.output)


if __name__ == "__main__":
    run_program(MotionConfig, main, __doc__)
