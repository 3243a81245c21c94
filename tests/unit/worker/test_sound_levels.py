"""The speech in a sound is heard, whatever its channels and levels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sounds import AudioInfo, accept_audio

Sound = NDArray[np.float64]
LIMITS = IntakeLimits()
RATE_HZ = 16_000
SECONDS = 4


def speech(level: float = 0.3) -> Sound:
    """Syllables: a hum of 150 Hz and its overtones that comes and goes four times a second, and two pauses."""
    times = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 150 * k * times + k) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 4 * times), 0, None) ** 0.7
    pauses = (times % 2) < 1.5
    return np.asarray(level * voice / np.abs(voice).max() * syllables * pauses)


def noise(level: float, seed: int = 0) -> Sound:
    return np.random.default_rng(seed).normal(0, level, SECONDS * RATE_HZ)


def hum(level: float) -> Sound:
    return level * np.sin(2 * np.pi * 50 * np.arange(SECONDS * RATE_HZ) / RATE_HZ)


def take(folder: Path, *channels: Sound, subtype: str = "PCM_16") -> tuple[AudioInfo, Sound, Sound]:
    """What the intake makes of these channels: for analysis, and for the MP4."""
    upload = folder / "upload"
    soundfile.write(upload, np.stack(channels, axis=1), RATE_HZ, format="WAV", subtype=subtype)
    info = accept_audio(upload, folder / "speech.flac", folder / "sound.flac", LIMITS)
    assert info.seconds == SECONDS
    return (
        info,
        soundfile.read(folder / "speech.flac")[0],
        soundfile.read(folder / "sound.flac", always_2d=True)[0],
    )


def likeness(got: Sound, expected: Sound) -> float:
    """Correlation, at any level."""
    return float(np.corrcoef(got, expected)[0, 1])


def test_a_clean_sound_is_only_mixed(tmp_path: Path) -> None:
    left, right = speech() + noise(0.001, 1), 0.7 * speech() + noise(0.001, 2)

    info, mono, stereo = take(tmp_path, left, right)

    assert info.notes == ()
    assert np.abs(mono - (left + right) / 2).max() < 2e-4
    assert np.abs(stereo[::3, 0] - left).max() < 0.01


@pytest.mark.parametrize("residue", [0.0, 0.05, 0.15])
def test_channels_that_cancel_leave_one_of_them(tmp_path: Path, residue: float) -> None:
    info, mono, stereo = take(tmp_path, speech(), -(1 - residue) * speech())

    assert likeness(mono, speech()) > 0.999
    assert np.abs(mono).max() == pytest.approx(0.3, abs=0.01)
    assert "Channel 1 of 2" in info.notes[0]
    # What is heard stays stereo, as it was sent.
    assert stereo.shape[1] == 2


@pytest.mark.parametrize("place", [0, 1])
def test_a_channel_that_is_much_louder_is_heard_alone(tmp_path: Path, place: int) -> None:
    channels = [noise(0.006), noise(0.006, 2)]
    channels[place] = speech()

    info, mono, _ = take(tmp_path, *channels)

    assert likeness(mono, speech()) > 0.999
    assert f"Channel {place + 1} of 2" in info.notes[0]


@pytest.mark.parametrize("place", [0, 1])
def test_a_channel_that_hums_as_loud_does_not_mask_the_voice(tmp_path: Path, place: int) -> None:
    channels = [hum(0.2), hum(0.2)]
    channels[place] = speech() + noise(0.001)

    _, mono, _ = take(tmp_path, *channels)

    assert likeness(mono, speech()) > 0.99


@pytest.mark.parametrize("place", range(6))
def test_speech_in_any_channel_of_six_is_heard(tmp_path: Path, place: int) -> None:
    # Also on the fourth, the one for low effects, which a mix to stereo leaves out.
    channels = [noise(0.001, seed) for seed in range(6)]
    channels[place] = speech()

    info, mono, sound = take(tmp_path, *channels)

    assert likeness(mono, speech()) > 0.999
    assert likeness(sound[::3].sum(axis=1), speech()) > 0.99
    assert np.abs(sound).max() > 0.1
    assert f"Channel {place + 1} of 6" in info.notes[0]


@pytest.mark.parametrize(
    "offsets", [pytest.param((0.4, 0.4), id="both"), pytest.param((0.5, 0.0), id="one")]
)
def test_a_constant_offset_is_taken_out(tmp_path: Path, offsets: tuple[float, float]) -> None:
    voice = speech(0.05) + noise(0.001)

    info, mono, sound = take(tmp_path, voice + offsets[0], voice + offsets[1])

    # The first moments hold the filter's own start.
    assert abs(mono[RATE_HZ:].mean()) < 0.001
    assert likeness(mono[RATE_HZ // 4 :], voice[RATE_HZ // 4 :]) > 0.99
    assert abs(sound[3 * RATE_HZ :].mean()) < 0.001
    assert "A constant offset (DC) was taken out." in info.notes


@pytest.mark.parametrize("peak", [1.6, 8.0])
def test_floating_point_above_full_scale_is_not_clipped(tmp_path: Path, peak: float) -> None:
    info, mono, sound = take(tmp_path, speech(peak), speech(peak), subtype="FLOAT")

    assert likeness(mono, speech()) > 0.9999
    assert likeness(sound[::3, 0], speech()) > 0.999
    assert np.abs(mono).max() == pytest.approx(0.89, abs=0.02)
    assert any("were turned down" in note for note in info.notes)


@pytest.mark.parametrize("level", [0.0003, 0.002])
def test_very_quiet_speech_is_turned_up_before_it_is_rounded(tmp_path: Path, level: float) -> None:
    info, mono, sound = take(tmp_path, speech(level) + noise(level / 100), subtype="PCM_24")

    assert likeness(mono, speech()) > 0.999
    loudest = np.sqrt((mono.reshape(-1, 400) ** 2).mean(axis=1)).max()
    assert 20 * np.log10(loudest) == pytest.approx(-26, abs=2)
    # The MP4 has what was sent.
    assert np.abs(sound).max() < 2 * level
    assert "very quiet" in info.notes[0]


def test_the_noise_of_an_empty_room_is_told_and_not_turned_up(tmp_path: Path) -> None:
    info, mono, _ = take(tmp_path, noise(0.0008))

    assert mono.std() == pytest.approx(0.0008, rel=0.1)
    [note] = info.notes
    assert note.startswith("There is hardly any sound in it (-62 dB")


def test_silence_is_told(tmp_path: Path) -> None:
    info, mono, _ = take(tmp_path, 0 * speech(), 0 * speech())

    assert not mono.any()
    assert info.notes == ("There is no sound in it: the mouth stays shut.",)


def test_a_clipped_voice_still_comes_and_goes_as_the_clean_one(tmp_path: Path) -> None:
    clipped = np.clip(speech(3.0), -1, 1)

    _, mono, _ = take(tmp_path, clipped, clipped)

    def loudness(sound: Sound) -> Sound:
        return np.sqrt((sound.reshape(-1, 640) ** 2).mean(axis=1))

    assert likeness(loudness(mono), loudness(speech())) > 0.9
    assert likeness(mono, clipped) > 0.999
