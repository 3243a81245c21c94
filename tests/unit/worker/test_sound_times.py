"""When a sound is heard: holes, late starts, several tracks, missing ends, against clicks of known times."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.films import H264, ffmpeg
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.probes import probe_audio
from worker.contract.intake.sounds import AudioInfo, accept_audio

LIMITS = IntakeLimits()
RATE_HZ = 48_000


def clicks(path: Path, times_s: list[float], seconds: float) -> Path:
    """A WAV with a burst of 1 kHz, 20 ms long, at each time, over a faint hiss."""
    samples = np.random.default_rng(1).normal(0, 1e-4, round(seconds * RATE_HZ))
    burst = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ // 50) / RATE_HZ)
    for time_s in times_s:
        first = round(time_s * RATE_HZ)
        samples[first : first + len(burst)] += burst
    soundfile.write(path, samples, RATE_HZ)
    return path


def take(upload: Path) -> AudioInfo:
    return accept_audio(
        upload, upload.with_name("speech.flac"), upload.with_name("sound.flac"), LIMITS
    )


def onsets_s(folder: Path, name: str = "speech.flac") -> list[float]:
    """When the bursts begin."""
    samples, rate_hz = soundfile.read(folder / name, always_2d=True)
    loud = np.abs(samples).max(axis=1) > 0.1
    places = np.flatnonzero(loud)
    first = np.flatnonzero(np.diff(places, prepend=-rate_hz) > 0.1 * rate_hz)
    return [float(place / rate_hz) for place in places[first]]


def refused(upload: Path) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        take(upload)
    assert caught.value.code is ErrorCode.UNDECODABLE_MEDIA
    return caught.value


# --- the container's clock ----------------------------------------------------------------------

CONTAINERS = [
    pytest.param("mp4", ("-c:a", "aac", *H264), id="mp4"),
    pytest.param("mov", ("-c:a", "pcm_s16le", *H264), id="mov"),
    pytest.param("mkv", ("-c:a", "flac", *H264), id="mkv"),
    pytest.param("webm", ("-c:a", "libopus", "-c:v", "libvpx"), id="webm"),
    pytest.param("ts", ("-c:a", "aac", *H264), id="ts"),
    pytest.param("fragments.mp4", ("-c:a", "aac", *H264, "-movflags", "frag_keyframe"), id="frag"),
]


@pytest.mark.parametrize(("suffix", "arguments"), CONTAINERS)
@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.5])
def test_a_sound_that_begins_later_than_the_pictures_stays_late(
    tmp_path: Path, suffix: str, arguments: tuple[str, ...], delay_s: float
) -> None:
    clicks(tmp_path / "clicks.wav", [0.3, 2.0], 2.5)
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=4.5"),
        *("-itsoffset", delay_s, "-i", tmp_path / "clicks.wav", *arguments),
        tmp_path / f"film.{suffix}",
    )

    take(tmp_path / f"film.{suffix}")

    expected = [0.3 + delay_s, 2.0 + delay_s]
    assert onsets_s(tmp_path) == pytest.approx(expected, abs=0.005)
    assert onsets_s(tmp_path, "sound.flac") == pytest.approx(expected, abs=0.005)


def test_pictures_that_begin_later_cut_the_sound_before_them_off(tmp_path: Path) -> None:
    clicks(tmp_path / "clicks.wav", [0.3, 2.0], 2.5)
    ffmpeg(
        *("-itsoffset", "1", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=2"),
        *("-i", tmp_path / "clicks.wav", *H264, "-c:a", "aac", tmp_path / "film.mkv"),
    )

    take(tmp_path / "film.mkv")

    assert onsets_s(tmp_path) == pytest.approx([1.0], abs=0.005)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("a.m4a", ("-c:a", "aac")), ("a.mka", ("-c:a", "flac")), ("o.webm", ("-c:a", "libopus"))],
)
def test_a_late_start_that_a_sound_alone_records_is_kept(
    tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    clicks(tmp_path / "clicks.wav", [0.3], 1.0)
    ffmpeg("-itsoffset", "0.7", "-i", tmp_path / "clicks.wav", *arguments, tmp_path / name)

    info = take(tmp_path / name)

    assert onsets_s(tmp_path) == pytest.approx([1.0], abs=0.005)
    assert info.seconds == pytest.approx(1.7, abs=0.03)


def test_a_clock_that_begins_anywhere_is_no_late_start(tmp_path: Path) -> None:
    clicks(tmp_path / "clicks.wav", [0.3], 1.0)
    for name, offset in (("a.ts", "0"), ("live.mkv", "3600"), ("a.mp3", "0")):
        ffmpeg("-itsoffset", offset, "-i", tmp_path / "clicks.wav", tmp_path / name)

        take(tmp_path / name)

        # An encoder's own delay is not recorded by MPEG-TS: up to two frames.
        assert onsets_s(tmp_path) == pytest.approx([0.3], abs=0.05), name


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        pytest.param("m4a", "aac", marks=pytest.mark.long),
        pytest.param("webm", "libopus", marks=pytest.mark.long),
        ("mp3", "mp3"),
    ],
)
def test_five_minutes_do_not_drift(tmp_path: Path, suffix: str, codec: str) -> None:
    times_s = [0.3, 60.0, 299.5]
    clicks(tmp_path / "clicks.wav", times_s, 300)
    ffmpeg("-i", tmp_path / "clicks.wav", "-c:a", codec, "-b:a", "64k", tmp_path / f"a.{suffix}")

    take(tmp_path / f"a.{suffix}")

    assert onsets_s(tmp_path) == pytest.approx(times_s, abs=0.005)


@pytest.mark.parametrize(
    ("offset_ms", "expected"), [(250, [0.55, 2.25]), (-200, [0.1, 1.8]), (-1000, [1.0])]
)
def test_a_sound_is_moved_by_the_offset_that_was_asked_for(
    tmp_path: Path, offset_ms: int, expected: list[float]
) -> None:
    upload = clicks(tmp_path / "clicks.wav", [0.3, 2.0], 2.5)

    info = accept_audio(
        *(upload, tmp_path / "speech.flac", tmp_path / "sound.flac", LIMITS), offset_ms=offset_ms
    )

    assert onsets_s(tmp_path) == pytest.approx(expected, abs=0.001)
    assert onsets_s(tmp_path, "sound.flac") == pytest.approx(expected, abs=0.001)
    assert info.seconds == pytest.approx(2.5 + offset_ms / 1000, abs=0.001)


@pytest.mark.long
@pytest.mark.parametrize(("suffix", "arguments"), CONTAINERS)
def test_five_minutes_of_a_film_do_not_drift(
    tmp_path: Path, suffix: str, arguments: tuple[str, ...]
) -> None:
    times_s = [0.3, 60.0, 299.5]
    clicks(tmp_path / "clicks.wav", times_s, 300)
    ffmpeg(
        *("-f", "lavfi", "-i", "color=size=64x64:rate=10:duration=300"),
        *("-i", tmp_path / "clicks.wav", *arguments, tmp_path / f"film.{suffix}"),
    )

    take(tmp_path / f"film.{suffix}")

    assert onsets_s(tmp_path) == pytest.approx(times_s, abs=0.005)


# --- holes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("o.webm", ("-c:a", "libopus")),
        ("a.mka", ("-c:a", "aac")),
        ("a.m4a", ("-c:a", "aac")),
        ("p.mkv", ("-c:a", "pcm_s16le")),
        ("a.ts", ("-c:a", "mp2")),
    ],
)
@pytest.mark.parametrize("hole_s", [0.08, 1.04])
def test_a_hole_in_the_time_stamps_is_silent(
    tmp_path: Path, name: str, arguments: tuple[str, ...], hole_s: float
) -> None:
    clicks(tmp_path / "clicks.wav", [0.3, 1.5, 2.5], 3.0)
    whole = tmp_path / f"whole{Path(name).suffix}"
    ffmpeg("-i", tmp_path / "clicks.wav", *arguments, whole)
    # Packets from 1 s on come later, as where a recorder paused.
    later = f"setts=pts='PTS+gte(PTS*TB,1)*{hole_s}/TB':dts='DTS+gte(PTS*TB,1)*{hole_s}/TB'"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:a", later, tmp_path / name)

    info = take(tmp_path / name)

    assert onsets_s(tmp_path)[1:] == pytest.approx([1.5 + hole_s, 2.5 + hole_s], abs=0.03)
    assert info.seconds == pytest.approx(3.0 + hole_s, abs=0.06)
    samples, _ = soundfile.read(tmp_path / "speech.flac")
    assert np.abs(samples[int(16_000 * 1.04) : int(16_000 * (0.96 + hole_s))]).max(initial=0) < 0.01


def test_an_hour_of_nothing_is_not_filled(tmp_path: Path) -> None:
    clicks(tmp_path / "clicks.wav", [0.3, 1.5], 2.0)
    later = "setts=pts='PTS+gte(PTS*TB,1)*3600/TB':dts='DTS+gte(PTS*TB,1)*3600/TB'"
    ffmpeg("-i", tmp_path / "clicks.wav", "-c:a", "libopus", tmp_path / "whole.webm")
    ffmpeg("-i", tmp_path / "whole.webm", "-c", "copy", "-bsf:a", later, tmp_path / "a.webm")

    with pytest.raises(IntakeError) as caught:
        take(tmp_path / "a.webm")

    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG


# --- several tracks -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "mov"])
@pytest.mark.parametrize(("flagged", "at_s"), [(0, 0.3), (1, 1.0), (2, 1.7)])
def test_the_track_that_is_flagged_default_is_taken(
    tmp_path: Path, suffix: str, flagged: int, at_s: float
) -> None:
    sources, maps = [], []
    for number, time_s in enumerate((0.3, 1.0, 1.7)):
        path = clicks(tmp_path / f"{number}.wav", [time_s], 2.5)
        sources += ["-i", path]
        maps += ["-map", number, f"-disposition:a:{number}", "default" if number == flagged else 0]
    ffmpeg(*sources, *maps, "-c:a", "aac", tmp_path / f"a.{suffix}")

    info = take(tmp_path / f"a.{suffix}")

    assert onsets_s(tmp_path) == pytest.approx([at_s], abs=0.005)
    assert info.notes == (f"Sound track {flagged + 1} of 3 was taken, as players do.",)
    assert probe_audio(tmp_path / f"a.{suffix}", LIMITS).channels == 1


@pytest.mark.parametrize("suffix", ["m4a", "mkv"])
def test_a_chosen_track_that_is_silent_is_told(tmp_path: Path, suffix: str) -> None:
    clicks(tmp_path / "voice.wav", [0.3], 1.5)
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono:d=1.5", tmp_path / "silence.wav")
    sources = ("-i", tmp_path / "silence.wav", "-i", tmp_path / "voice.wav", "-map", 0, "-map", 1)
    flags = ("-disposition:a:0", "default", "-disposition:a:1", 0)
    ffmpeg(*sources, *flags, "-c:a", "aac", tmp_path / f"a.{suffix}")

    info = take(tmp_path / f"a.{suffix}")

    assert info.notes[0].startswith(
        "Sound track 1 of 2 was taken, as players do, and it is silent."
    )
    assert info.notes[1] == "There is no sound in it: the mouth stays shut."


@pytest.mark.parametrize(("volume", "note"), [(0.0001, "hardly any sound"), (0.0, "no sound")])
def test_a_sound_in_which_nobody_speaks_is_told(tmp_path: Path, volume: float, note: str) -> None:
    hum = f"sine=frequency=100:sample_rate=16000:duration=1.5,volume={8 * volume}"
    ffmpeg("-f", "lavfi", "-i", hum, tmp_path / "a.wav")

    assert any(note in told for told in take(tmp_path / "a.wav").notes)


# --- missing ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.wav", ()),
        ("f.wav", ("-c:a", "pcm_f32le")),
        ("rf.wav", ("-rf64", "always")),
        ("adpcm.wav", ("-c:a", "adpcm_ms")),
        ("a.flac", ()),
        ("a.aiff", ()),
        ("a.caf", ()),
        ("fast.m4a", ("-movflags", "+faststart")),
        ("alac.m4a", ("-c:a", "alac", "-movflags", "+faststart")),
        ("a.mp3", ("-b:a", "96k")),
        ("a.mka", ("-c:a", "libopus")),
        ("a.w64", ()),
    ],
)
def test_a_recording_cut_in_the_middle_is_refused(
    tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    clicks(tmp_path / "clicks.wav", [0.3, 3.5], 4.0)
    ffmpeg("-i", tmp_path / "clicks.wav", *arguments, tmp_path / name)
    assert take(tmp_path / name).seconds == pytest.approx(4.0, abs=0.1)
    content = (tmp_path / name).read_bytes()

    (tmp_path / name).write_bytes(content[: len(content) * 55 // 100])

    assert "ends in the middle" in refused(tmp_path / name).detail


def with_data_bytes(wav: bytes, num_bytes: int) -> bytes:
    place = wav.index(b"data") + 4
    return wav[:place] + struct.pack("<I", num_bytes) + wav[place + 4 :]


@pytest.mark.parametrize("told", [0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_F000])
def test_a_streamed_wav_is_whole_whatever_its_header_says(tmp_path: Path, told: int) -> None:
    content = clicks(tmp_path / "clicks.wav", [0.3], 2.0).read_bytes()
    (tmp_path / "upload").write_bytes(with_data_bytes(content, told))

    assert take(tmp_path / "upload").seconds == pytest.approx(2.0, abs=0.01)


def test_a_header_that_errs_by_a_block_is_tolerated(tmp_path: Path) -> None:
    content = clicks(tmp_path / "clicks.wav", [0.3], 2.0).read_bytes()
    (tmp_path / "upload").write_bytes(with_data_bytes(content, 2 * 96_000 + 4096))

    assert take(tmp_path / "upload").seconds == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("count", [2, 3])
def test_wav_files_one_behind_the_other_are_refused(tmp_path: Path, count: int) -> None:
    with wave.open(str(tmp_path / "one.wav"), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(b"\x10\x20" * 16_000)
    (tmp_path / "upload").write_bytes((tmp_path / "one.wav").read_bytes() * count)

    error = refused(tmp_path / "upload")

    assert f"{count} WAV files one behind the other" in error.detail
    assert error.params == {"files": count}


def test_mp3_files_one_behind_the_other_are_one_sound(tmp_path: Path) -> None:
    clicks(tmp_path / "clicks.wav", [0.3], 1.0)
    ffmpeg("-i", tmp_path / "clicks.wav", "-b:a", "96k", tmp_path / "one.mp3")
    (tmp_path / "upload").write_bytes((tmp_path / "one.mp3").read_bytes() * 2)

    info = take(tmp_path / "upload")

    assert info.seconds == pytest.approx(2.0, abs=0.15)
    assert len(onsets_s(tmp_path)) == 2
