"""Which files go together, what they are called, and what is remembered of them."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from tests.films import film
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.entry import take_in, take_in_later
from worker.contract.intake.file_names import input_files
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sounds import flac_stream
from worker.contract.intake.uploads import (
    MAX_REFERENCES,
    Uploads,
    WrongCombinationError,
    check_choices,
    check_combination,
)
from worker.contract.messages import JobInput, SamplingOptions, VideoInput
from worker.contract.results import JobResult
from worker.render_request import RenderRequest
from worker.video_file import NO_LABEL

LIMITS = IntakeLimits()
OPTIONS = SamplingOptions(fps=20)


def picture(path: Path, width: int = 96) -> Path:
    Image.new("RGB", (width, 80), "teal").save(path, format="PNG")
    return path


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    with wave.open(str(tmp_path / "upload-audio"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(16_000))
    return tmp_path / "upload-audio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "taken").mkdir()
    return tmp_path / "taken"


@pytest.mark.parametrize(
    ("images", "video", "driving", "field"),
    [
        (0, False, False, "image"),
        (0, False, True, "image"),
        (0, True, True, "driving_video"),
        (1, True, True, "driving_video"),
        (2 + MAX_REFERENCES, False, False, "image"),
        (1 + MAX_REFERENCES, True, False, "image"),
    ],
)
def test_files_that_do_not_go_together_are_told(
    images: int, video: bool, driving: bool, field: str
) -> None:
    with pytest.raises(WrongCombinationError) as caught:
        check_combination(num_images=images, has_video=video, has_driving_video=driving)

    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTIONS, field)
    assert caught.value.detail.endswith(".")


@pytest.mark.parametrize(
    ("images", "video", "driving"),
    [
        (1, False, False),
        (1, False, True),
        (1 + MAX_REFERENCES, False, True),
        (0, True, False),
        (MAX_REFERENCES, True, False),
    ],
)
def test_files_that_go_together_pass(images: int, video: bool, driving: bool) -> None:
    check_combination(num_images=images, has_video=video, has_driving_video=driving)


@pytest.mark.parametrize(
    ("choices", "audio", "video", "driving", "field", "other"),
    [
        ({"motion": "still"}, True, True, False, "motion", "video"),
        ({"motion": 0.5}, True, False, True, "motion", "driving_video"),
        ({"blink": True}, True, True, False, "blink", "video"),
        ({"blink": False}, True, True, False, "blink", "video"),
        ({"loop": True}, True, True, False, "loop", "video"),
        ({"loop": True}, True, False, True, "loop", "driving_video"),
        ({"seconds": 3}, False, True, False, "seconds", "video"),
        ({"seconds": 3}, True, False, False, "seconds", "audio"),
        ({"seconds": 3, "audio_offset_ms": 40}, False, False, False, "audio_offset_ms", "seconds"),
        ({"audio_offset_ms": "auto"}, True, False, False, "audio_offset_ms", "video"),
        ({"audio_offset_ms": "auto"}, True, False, True, "audio_offset_ms", "video"),
        (
            {"audio_offset_ms": "auto", "ranges": "1-2"},
            True,
            True,
            False,
            "audio_offset_ms",
            "ranges",
        ),
        ({}, False, False, False, "audio", "seconds"),
        ({}, False, True, False, "audio", "seconds"),
    ],
)
def test_options_that_do_not_go_with_the_files_are_told(
    choices: dict[str, object], audio: bool, video: bool, driving: bool, field: str, other: str
) -> None:
    options = SamplingOptions.model_validate(choices)

    with pytest.raises(WrongCombinationError) as caught:
        check_choices(options, has_audio=audio, has_video=video, has_driving_video=driving)

    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTIONS, field)
    assert f"`{field}`" in caught.value.detail and f"`{other}`" in caught.value.detail


@pytest.mark.parametrize(
    ("choices", "audio", "video", "driving"),
    [
        ({"seed": 3}, True, True, False),
        ({"motion": "subtle", "blink": False, "loop": True}, True, False, False),
        ({"blink": False}, True, False, True),
        ({"seconds": 3, "loop": True}, False, False, False),
        ({"seconds": 3}, False, False, True),
        ({"audio_offset_ms": -40}, True, True, False),
        ({"audio_offset_ms": "auto"}, True, True, False),
    ],
)
def test_options_that_go_with_the_files_pass(
    choices: dict[str, object], audio: bool, video: bool, driving: bool
) -> None:
    options = SamplingOptions.model_validate(choices)
    check_choices(options, has_audio=audio, has_video=video, has_driving_video=driving)


def test_a_listening_photograph_hears_silence(tmp_path: Path, folder: Path) -> None:
    options = SamplingOptions(seconds=1.5)

    taken = take_in(Uploads(None, (picture(tmp_path / "i"),)), folder, options, LIMITS)

    assert (taken.audio.seconds, taken.audio.format, taken.audio.bytes) == (1.5, "silence", 0)
    assert taken.audio.notes == ()
    assert flac_stream(folder / "speech.flac").num_samples == 24_000
    assert sorted(path.name for path in folder.iterdir()) == sorted(input_files(taken))
    request = RenderRequest.of(taken, folder.joinpath, tmp_path / "out.mp4", NO_LABEL)
    assert request.sound is None


def test_nobody_listens_longer_than_anybody_speaks(tmp_path: Path, folder: Path) -> None:
    uploads = Uploads(None, (picture(tmp_path / "i"),))

    with pytest.raises(IntakeError) as caught:
        take_in(uploads, folder, SamplingOptions(seconds=LIMITS.max_audio_s + 1), LIMITS)

    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG
    assert not (folder / "silence.wav").exists()


def test_beside_a_driving_video_silence_is_made_at_once(tmp_path: Path, folder: Path) -> None:
    driving = film(tmp_path / "upload-driving.mp4")
    uploads = Uploads(None, (picture(tmp_path / "i"),), driving_video=driving)

    taken = take_in_later(uploads, folder, SamplingOptions(seconds=1.0), LIMITS)

    assert taken.pending is not None and taken.pending.files == ("driving_video",)
    assert taken.audio.format == "silence" and (folder / "speech.flac").is_file()


def test_the_first_image_is_the_portrait_and_the_others_are_references(
    tmp_path: Path, folder: Path, audio: Path
) -> None:
    images = tuple(picture(tmp_path / f"i{width}", width) for width in (100, 110, 120))
    driving = film(tmp_path / "upload-driving.mp4", fps="30")

    taken = take_in(Uploads(audio, images, driving_video=driving), folder, OPTIONS, LIMITS)

    assert taken.image is not None
    assert taken.driving_video is not None
    assert (taken.image.width, [image.width for image in taken.references]) == (100, [110, 120])
    assert (taken.driving_video.num_frames, taken.driving_video.fps) == (20, 20.0)
    assert taken.video is None
    request = RenderRequest.of(taken, folder.joinpath, tmp_path / "out.mp4", NO_LABEL)
    assert request.video is None
    assert request.driving == folder / "driving.mkv"
    assert request.references == (folder / "reference-1.png", folder / "reference-2.png")
    assert request.image is not None
    with Image.open(request.image) as portrait, Image.open(request.references[1]) as last:
        assert (portrait.width, last.width) == (100, 120)


def test_beside_a_video_every_image_is_a_reference(
    tmp_path: Path, folder: Path, audio: Path
) -> None:
    video = film(tmp_path / "upload-video.mp4")

    taken = take_in(Uploads(audio, (picture(tmp_path / "i"),), video), folder, OPTIONS, LIMITS)

    assert taken.image is None
    assert taken.video is not None
    assert (taken.video.width, taken.video.num_frames, taken.video.seconds) == (160, 20, 1.0)
    request = RenderRequest.of(taken, folder.joinpath, tmp_path / "out.mp4", NO_LABEL)
    assert (request.image, request.video) == (None, folder / "input.mkv")
    assert request.references == (folder / "reference-1.png",)


def test_the_names_are_those_of_the_files(tmp_path: Path, folder: Path, audio: Path) -> None:
    images = (picture(tmp_path / "a"), picture(tmp_path / "b"))
    driving = film(tmp_path / "upload-driving.mp4")

    taken = take_in(Uploads(audio, images, driving_video=driving), folder, OPTIONS, LIMITS)

    assert sorted(path.name for path in folder.iterdir()) == sorted(input_files(taken))


def test_a_wrong_driving_video_is_called_that(tmp_path: Path, folder: Path, audio: Path) -> None:
    uploads = Uploads(audio, (picture(tmp_path / "i"),), driving_video=picture(tmp_path / "p"))

    with pytest.raises(IntakeError, match="driving video") as caught:
        take_in(uploads, folder, OPTIONS, LIMITS)

    assert caught.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


# As they were written before there were videos.
OLD_INPUT = """
{"audio": {"seconds": 1.0, "sample_rate_hz": 48000, "channels": 1, "format": "wav", "bytes": 1,
           "sha256": "a"},
 "image": {"width": 64, "height": 64, "format": "png", "bytes": 1, "sha256": "b"},
 "options": {"seed": 3, "preset": "fast", "num_inference_steps": null, "fps": 25.0,
             "face_index": 0, "lip_strength": 1.0}}
"""
OLD_RESULT = """
{"key": "results/a/b.mp4", "content_type": "video/mp4", "bytes": 10, "sha256": "c", "width": 64,
 "height": 64, "fps": 25.0, "num_frames": 25, "seconds": 1.0, "face_bbox_xyxy": null,
 "renderer": {"model_name": "m", "weights_sha256": null, "attention_backend": null,
              "dtype": "fp32", "device": "cpu"}}
"""


def test_old_records_are_still_read() -> None:
    job_input = JobInput.model_validate_json(OLD_INPUT)
    result = JobResult.model_validate_json(OLD_RESULT)

    assert job_input.image is not None
    assert (job_input.video, job_input.driving_video, job_input.references) == (None, None, ())
    assert input_files(job_input) == ["input.png", "speech.flac", "sound.flac"]
    assert result.video is None


SOME_VIDEO = VideoInput(
    width=64, height=64, fps=25, num_frames=9, seconds=1, format="mov", bytes=1, sha256="d"
)


@pytest.mark.parametrize("present", [(), ("image", "video"), ("video", "driving_video")])
def test_an_input_that_contradicts_itself_is_no_input(present: tuple[str, ...]) -> None:
    old = JobInput.model_validate_json(OLD_INPUT)
    parts = {"image": old.image, "video": SOME_VIDEO, "driving_video": SOME_VIDEO}

    with pytest.raises(ValidationError, match="expected"):
        JobInput(audio=old.audio, options=old.options, **{name: parts[name] for name in present})
