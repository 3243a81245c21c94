"""Heads that move by a voice: with the network that ships, as long as anybody talks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.face.head_motion import HeadMotion
from model.media.audio import SAMPLE_RATE
from model.motion.blinks import blink_times, lid_openings
from model.motion.channels import RATE_HZ, from_pushes, to_pushes
from model.motion.head_motion import INTER_OCULAR, voice_motion
from model.motion.head_path import BANDS_HZ, equalise, head_path
from model.motion.rhythm import mouth_rhythm, sound_rhythm
from model.networks.head_flow import HeadFlow

WEIGHTS = Path(__file__).resolve().parents[3] / "model" / "weights" / "head_flow"
Waveform = NDArray[np.float32]


@pytest.fixture(scope="module")
def flow() -> HeadFlow:
    return HeadFlow.from_pretrained(WEIGHTS, low_cpu_mem_usage=False).float().eval()


def voice(seconds: float, pause_s: float = 1.2, phrase_s: float = 2.4) -> Waveform:
    """Phrases of syllables, four a second, with pauses between them."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    speaks = times % (phrase_s + pause_s) < phrase_s
    syllables = np.sin(np.pi * 4.0 * times) ** 2
    return (0.3 * speaks * syllables * np.sin(2 * np.pi * 180.0 * times)).astype(np.float32)


def moved(flow: HeadFlow, sound: Waveform, **choices: object) -> HeadMotion:
    chosen = {"strength": 1.0, "blink": True, "seed": 3} | choices
    count = round(len(sound) / SAMPLE_RATE * 25)
    return voice_motion(flow, sound, count, 25.0, **chosen)  # type: ignore[arg-type]


def fields(motion: HeadMotion) -> NDArray[np.float32]:
    values = [getattr(motion, field.name) for field in dataclasses.fields(motion)]
    return np.concatenate([value.reshape(len(value), -1) for value in values], axis=1)


@pytest.fixture(scope="module")
def two_minutes(flow: HeadFlow) -> HeadMotion:
    return moved(flow, voice(120.0))


def test_the_same_seed_gives_the_same_motion_and_another_one_another(flow: HeadFlow) -> None:
    sound = voice(12.0)
    first = fields(moved(flow, sound))
    np.testing.assert_array_equal(first, fields(moved(flow, sound)))
    other = fields(moved(flow, sound, seed=4))
    assert abs(np.corrcoef(first[:, 2], other[:, 2])[0, 1]) < 0.9


@pytest.mark.parametrize("seconds", [0.2, 0.5, 7.7, 31.3])
def test_a_voice_may_be_of_any_length(flow: HeadFlow, seconds: float) -> None:
    motion = moved(flow, voice(seconds))
    assert len(motion) == round(25 * seconds)
    assert np.isfinite(fields(motion)).all()


def test_a_head_begins_as_the_photograph_and_comes_back_to_it(two_minutes: HeadMotion) -> None:
    assert not two_minutes.turn[0] and not two_minutes.shift[0].any()
    assert two_minutes.angles is not None and not two_minutes.angles[0].any()
    shift = two_minutes.shift / INTER_OCULAR
    assert 0.03 < float(np.sqrt((shift**2).sum(axis=1).mean())) < 0.2
    # no minute has drifted away
    for minute in (shift[:1500], shift[1500:]):
        assert np.abs(minute.mean(axis=0)).max() < 0.08
    assert np.degrees(np.abs(two_minutes.angles)).max() <= 10.0


def test_nothing_repeats_within_two_minutes(two_minutes: HeadMotion) -> None:
    path = two_minutes.shift[:, 0] - two_minutes.shift[:, 0].mean()
    width = 100  # 4 s
    pieces = np.lib.stride_tricks.sliding_window_view(path, width)[::25]
    pieces = pieces - pieces.mean(axis=1, keepdims=True)
    apart = pieces[:, None] - pieces[None]
    distance = np.sqrt((apart**2).mean(axis=-1)) / path.std()
    far = np.abs(np.subtract.outer(range(len(pieces)), range(len(pieces)))) >= 4
    assert distance[far].min() > 0.03


def test_a_head_is_stiller_in_pauses(flow: HeadFlow) -> None:
    sound = voice(60.0)
    motions = [moved(flow, sound, seed=seed) for seed in range(4)]
    times = np.arange(1500) / 25.0
    speaking = np.interp(times, np.arange(750) / RATE_HZ + 0.5 / RATE_HZ, sound_rhythm(sound)[:, 0])
    speed = np.stack([np.gradient(motion.shift, axis=0) for motion in motions])
    energy = (speed**2).sum(axis=-1).mean(axis=0)
    assert energy[speaking > 0.7].mean() > 1.3 * energy[speaking < 0.3].mean()


def test_strength_scales_the_head_and_leaves_the_blinks(flow: HeadFlow) -> None:
    sound = voice(20.0)
    natural, half = moved(flow, sound), moved(flow, sound, strength=0.5)
    ratio = float(half.shift.std() / natural.shift.std())
    assert ratio == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(half.lids, natural.lids)


def test_a_still_head_blinks_without_a_network_and_open_eyes_stay_open(flow: HeadFlow) -> None:
    sound = voice(20.0)
    count = 500
    still = voice_motion(None, sound, count, 25.0, strength=0.0, blink=True, seed=3)
    assert not still.shift.any() and not still.turn.any() and still.lids.min() < 0.1
    open_eyes = moved(flow, sound, blink=False)
    assert (open_eyes.lids == 1.0).all() and open_eyes.shift.any()
    np.testing.assert_array_equal(still.lids, moved(flow, sound).lids)


def test_a_loop_ends_as_it_begins(flow: HeadFlow) -> None:
    motion = fields(moved(flow, voice(9.0), loop=True))
    np.testing.assert_array_equal(motion[-1], motion[0])
    assert np.abs(motion[100:120]).max() > 0


def test_a_listener_moves_less_than_a_speaker(flow: HeadFlow) -> None:
    speaker, listener = (
        np.mean(
            [np.abs(np.diff(moved(flow, sound, seed=s).shift, axis=0)).mean() for s in range(3)]
        )
        for sound in (voice(30.0), np.zeros(30 * SAMPLE_RATE, np.float32))
    )
    assert 0.0 < listener < speaker


def test_blinks_are_as_frequent_and_as_long_as_people_s() -> None:
    rhythm = sound_rhythm(voice(120.0))
    frames = np.arange(3000) / 25.0
    rates, lengths, gaps = [], [], []
    for seed in range(24):
        random = np.random.default_rng(seed)
        times = blink_times(rhythm, random)
        lids = lid_openings(times, frames, random)
        edges = np.diff(np.concatenate([[0], (lids < 0.5).astype(int), [0]]))
        rates.append(len(times) / 2.0)
        lengths.append((np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)) / 25.0)
        gaps.append(np.diff(times))
    assert min(rates) >= 12 and max(rates) <= 35
    assert 0.10 <= float(np.median(np.concatenate(lengths))) <= 0.20
    doubles = np.mean(np.concatenate(gaps) < 0.5)
    assert 0.03 < doubles < 0.25


def test_a_blink_closes_faster_than_it_opens() -> None:
    times = np.linspace(0, 1, 1001)
    for seed in range(5):
        closure = 1 - lid_openings(np.array([0.5]), times, np.random.default_rng(seed))
        assert closure[0] == closure[-1] == 0.0 and closure.max() == 1.0
        shut = np.flatnonzero(closure == 1.0)
        moving = np.flatnonzero(closure > 0.0)
        assert 0.0 < shut[0] - moving[0] < moving[-1] - shut[-1]
        half = times[closure > 0.5]
        assert 0.10 < half[-1] - half[0] < 0.20
        assert (np.diff(closure)[: shut[0]] >= 0).all() and (
            np.diff(closure)[shut[-1] :] <= 0
        ).all()


def test_blinks_come_where_phrases_end() -> None:
    rhythm = sound_rhythm(voice(240.0))
    times = np.concatenate([blink_times(rhythm, np.random.default_rng(seed)) for seed in range(16)])
    phase = times % 3.6  # speech up to 2.4, then a pause
    after_phrase = ((phase > 2.3) & (phase < 2.9)).mean()
    assert after_phrase > 1.8 * 0.6 / 3.6


def test_pushes_make_the_path_again() -> None:
    path = np.cumsum(np.random.default_rng(0).normal(size=(50, 7)), axis=0)
    np.testing.assert_allclose(from_pushes(to_pushes(path)), path, atol=1e-9)
    # without pushes a head comes back to rest
    pushes = to_pushes(path)
    pushes[20:] = 0
    assert (
        np.abs(from_pushes(np.pad(pushes, ((0, 60), (0, 0))))[-1]).max() < 0.01 * np.abs(path).max()
    )


def test_an_equaliser_of_ones_changes_nothing() -> None:
    path = np.random.default_rng(0).normal(size=(101, 7))
    np.testing.assert_allclose(equalise(path, np.ones((7, len(BANDS_HZ)))), path, atol=1e-9)
    doubled = equalise(path, np.full((7, len(BANDS_HZ)), 2.0))
    np.testing.assert_allclose(doubled, 2 * path, atol=1e-9)


def test_rhythm_tells_speech_from_silence_by_sound_and_by_mouth() -> None:
    sound = voice(12.0)
    rhythm = sound_rhythm(sound)
    assert rhythm.shape == (150, 2)
    phase = (np.arange(150) + 0.5) / RATE_HZ % 3.6
    assert rhythm[(phase > 0.4) & (phase < 2.0), 0].min() > 0.8
    assert rhythm[(phase > 2.9) & (phase < 3.2), 0].max() < 0.2
    mouth = np.abs(np.sin(np.pi * 2.0 * np.arange(150) / RATE_HZ)) * (phase < 2.4)
    seen = mouth_rhythm(mouth)[:, 0]
    assert (
        seen[(phase > 0.6) & (phase < 1.8)].mean()
        > seen[(phase > 2.9) & (phase < 3.2)].mean() + 0.5
    )
    silence = sound_rhythm(np.zeros(SAMPLE_RATE, np.float32))
    assert not silence.any()


def test_a_longer_voice_is_not_another_person(flow: HeadFlow) -> None:
    """Memory and work are a window's: the beginning does not depend on how long it goes on."""
    rhythm = sound_rhythm(voice(24.0))
    whole, part = head_path(flow, rhythm, 5), head_path(flow, rhythm[:200], 5)
    assert np.corrcoef(whole[:150, 0], part[:150, 0])[0, 1] > 0.9
