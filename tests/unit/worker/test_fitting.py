"""A voice for parts of a film, and films and voices of other lengths: what is heard when, and what is dubbed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pydantic import ValidationError

from tests.films import H264, ffmpeg
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.entry import decode_pending, take_in, take_in_later
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads, WrongCombinationError
from worker.contract.messages import JobInput, SamplingOptions

OWN_HZ, VOICE_HZ = 400, 1500
RATE = 48_000


@pytest.fixture(scope="module")
def film_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 29.97, a deep tone in stereo."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=30000/1001:duration=3.99"),
        *("-f", "lavfi", "-i", f"sine=f={OWN_HZ}:duration=4", "-ac", "2", *H264, path),
    )
    return path


def voice(folder: Path, seconds: float) -> Path:
    """A high tone that rises a little: its frequency tells the time, 100 Hz a second."""
    rise = f"aevalsrc='0.4*sin(2*PI*({VOICE_HZ}*t+50*t*t))':s={RATE}:d={seconds}"
    ffmpeg("-f", "lavfi", "-i", rise, folder / "voice.wav")
    return folder / "voice.wav"


def taken(film_: Path, folder: Path, seconds: float, **options: Any) -> JobInput:
    uploads = Uploads(voice(folder, seconds), video=film_)
    return take_in(uploads, folder, SamplingOptions(**options), IntakeLimits())


def heard(folder: Path, at_s: float) -> float:
    """The frequency at a moment in Hz; 0 for silence."""
    samples, rate = soundfile.read(folder / "sound.flac", always_2d=True)
    begin = round((at_s - 0.05) * rate)
    part: NDArray[np.float64] = samples[begin : begin + round(0.1 * rate), 0]
    if np.abs(part).max() < 1e-3:
        return 0.0
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * len(part)))
    return float(spectrum.argmax() * rate / (8 * len(part)))


def frames_heard(folder: Path, name: str = "sound.flac") -> float:
    """Length of a sound in frames of the film."""
    info = soundfile.info(folder / name)
    return float(info.frames / info.samplerate * 30000 / 1001)


def test_ranges_of_a_voice_for_the_film(film_: Path, tmp_path: Path) -> None:
    job = taken(film_, tmp_path, 5.0, ranges="3-3.5, 1-2")

    assert job.video is not None and job.video.dubbed == ((1.0, 2.0), (3.0, 3.5))
    for at_s in (0.5, 0.9, 2.1, 2.7, 3.7):
        assert heard(tmp_path, at_s) == pytest.approx(OWN_HZ, abs=3)
    for at_s in (1.1, 1.9, 3.25):
        # What it says at this time of the film.
        assert heard(tmp_path, at_s) == pytest.approx(VOICE_HZ + 100 * at_s, abs=4)
    assert job.video.num_frames is not None
    for name in ("sound.flac", "speech.flac"):
        assert 0 <= job.video.num_frames - frames_heard(tmp_path, name) < 0.01
    assert (job.audio.channels, job.options.ranges) == (2, ((1.0, 2.0), (3.0, 3.5)))


def test_ranges_of_a_voice_that_is_for_them_alone(film_: Path, tmp_path: Path) -> None:
    taken(film_, tmp_path, 1.3, ranges="1-2,3-3.5", audio_for="ranges")

    assert heard(tmp_path, 1.5) == pytest.approx(VOICE_HZ + 50, abs=4)
    assert heard(tmp_path, 3.1) == pytest.approx(VOICE_HZ + 110, abs=4)
    assert heard(tmp_path, 3.4) == 0.0, "the voice has ended; the film's own stays away"
    assert heard(tmp_path, 3.7) == pytest.approx(OWN_HZ, abs=3)
    speech, rate = soundfile.read(tmp_path / "speech.flac")
    assert np.abs(speech[: int(0.99 * rate)]).max() == 0.0, "only the voice moves the mouth"
    assert np.abs(speech[int(1.1 * rate) : int(1.9 * rate)]).max() > 0.1


def test_joins_neither_click_nor_move_anything(film_: Path, tmp_path: Path) -> None:

    taken(film_, tmp_path, 5.0, ranges="1-2")
    samples, _ = soundfile.read(tmp_path / "sound.flac", always_2d=True)

    steps = np.abs(np.diff(samples[:, 0]))
    assert steps.max() < 1.1 * 0.4 * 2 * np.pi * 1800 / RATE


@pytest.mark.parametrize(
    ("seconds", "options", "dubbed", "end_s"),
    [
        (2.0, {}, None, 2.0),
        (2.0, {"video_longer": "keep"}, ((0.0, 2.0),), 4.004),
        (5.0, {"video_longer": "keep"}, None, 5.0),
        (5.0, {"video_shorter": "cut"}, None, 4.004),
        (5.0, {"video_shorter": "repeat"}, None, 5.0),
        (2.0, {"video_shorter": "cut"}, None, 2.0),
    ],
)
def test_other_lengths(
    film_: Path, tmp_path: Path, seconds: float, options: Any, dubbed: Any, end_s: float
) -> None:
    job = taken(film_, tmp_path, seconds, **options)

    assert job.video is not None and job.video.dubbed == dubbed
    assert job.audio.seconds == pytest.approx(end_s, abs=0.002)
    assert heard(tmp_path, 1.9) == pytest.approx(VOICE_HZ + 190, abs=4)
    if dubbed:
        assert heard(tmp_path, 2.1) == pytest.approx(OWN_HZ, abs=3)


def test_a_film_without_sound_is_silent_where_it_is_not_dubbed(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=3", tmp_path / "v.mp4")

    job = taken(tmp_path / "v.mp4", tmp_path, 3.0, ranges="1-2")

    assert [heard(tmp_path, 0.5), heard(tmp_path, 2.5)] == [0.0, 0.0]
    assert heard(tmp_path, 1.5) > VOICE_HZ
    assert any("no sound of its own" in note for note in job.audio.notes)


@pytest.mark.parametrize(
    ("seconds", "options", "words"),
    [
        (5.0, {"ranges": "1-2,3-9"}, "3-9 ends behind the end of the video"),
        (1.5, {"ranges": "0-1,2-3"}, "2-3 begins behind the end of the audio"),
        (3.0, {"ranges": "0-1,2-3", "audio_for": "ranges"}, "the ranges 2.00 s together"),
        (1.0, {"audio_for": "ranges"}, "`audio_for`"),
        (1.0, {"ranges": "0-1", "video_longer": "keep"}, "`video_longer`"),
    ],
)
def test_what_does_not_go_together_is_told(
    film_: Path, tmp_path: Path, seconds: float, options: Any, words: str
) -> None:
    with pytest.raises(WrongCombinationError) as caught:
        taken(film_, tmp_path, seconds, **options)

    assert caught.value.code is ErrorCode.INVALID_OPTIONS
    assert words in caught.value.detail and caught.value.detail.endswith(".")


@pytest.mark.parametrize("name", ["ranges", "video_shorter", "video_longer"])
def test_a_photograph_has_no_parts(tmp_path: Path, name: str) -> None:
    value = {"ranges": "0-1", "video_shorter": "freeze", "video_longer": "keep"}[name]
    uploads = Uploads(voice(tmp_path, 1.0), images=(tmp_path / "none.png",))

    with pytest.raises(WrongCombinationError) as caught:
        take_in(uploads, tmp_path, SamplingOptions.model_validate({name: value}), IntakeLimits())

    assert caught.value.field == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "START-END"),
        ("1", "START-END"),
        ("1-2;3-4", "START-END"),
        ("-1-2", "START-END"),
        ("1-inf", "START-END"),
        ("4-1", "ends before it begins"),
        ("1-1", "ends before it begins"),
        ("1-1.1", "too short"),
        ("1-3,2-4", "overlap"),
        (",".join(f"{n}-{n}.5" for n in range(101)), "1 to 100"),
    ],
)
def test_ranges_are_checked_by_themselves(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SamplingOptions.model_validate({"ranges": text})


def test_ranges_are_stored_and_read_as_pairs() -> None:
    options = SamplingOptions.model_validate({"ranges": " 10 - 12.5,1.5-4,4-5"})

    assert options.ranges == ((1.5, 4.0), (4.0, 5.0), (10.0, 12.5))
    stored = options.model_dump_json(exclude_defaults=True)
    assert stored == '{"ranges":[[1.5,4.0],[4.0,5.0],[10.0,12.5]]}'
    assert SamplingOptions.model_validate_json(stored) == options


def test_decoding_later_makes_the_same(film_: Path, tmp_path: Path) -> None:
    now, later, made = (tmp_path / name for name in ("now", "later", "made"))
    for folder in (now, later, made):
        folder.mkdir()
    right = taken(film_, now, 5.0, ranges="1-2")
    video = shutil.copy(film_, later / "received-video")
    uploads = Uploads(voice(later, 5.0), video=Path(video))
    options = SamplingOptions.model_validate({"ranges": "1-2"})

    told = take_in_later(uploads, later, options, IntakeLimits())
    assert told.options.fps == told.video.fps == 30000 / 1001  # type: ignore[union-attr]
    done = decode_pending(told, later.joinpath, made)

    assert done == right
    for name in ("speech.flac", "sound.flac"):
        assert (made / name).read_bytes() == (now / name).read_bytes()


def test_ranges_behind_the_told_end_are_refused_at_once(film_: Path, tmp_path: Path) -> None:
    uploads = Uploads(voice(tmp_path, 5.0), video=Path(shutil.copy(film_, tmp_path / "u")))
    options = SamplingOptions.model_validate({"ranges": "1-20"})

    with pytest.raises(IntakeError, match="behind the end"):
        take_in_later(uploads, tmp_path, options, IntakeLimits())
