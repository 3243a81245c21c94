"""The intake on real files: what it takes, what it leaves, and how it refuses."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from PIL import Image, ImageCms

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.file_checks import file_sha256
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.pictures import accept_image
from worker.contract.intake.sounds import accept_audio, flac_stream

LIMITS = IntakeLimits()


def write_wav(path: Path, seconds: float, *, rate_hz: int = 22_050, channels: int = 1) -> Path:
    samples = (
        round(12_000 * math.sin(2 * math.pi * 300 * index / rate_hz))
        for index in range(round(seconds * rate_hz))
    )
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(b"".join(struct.pack("<h", sample) * channels for sample in samples))
    return path


def convert(source: Path, destination: Path, *arguments: str) -> Path:
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-nostdin", "-loglevel", "error", "-y", "-i", source),
            *arguments,
            destination,
        ],
        check=True,
    )
    return destination


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    red = Image.linear_gradient("L").rotate(90).resize((width, height))
    green = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, Image.new("L", (width, height), 40)))


def refused(call: Callable[[], object]) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        call()
    return caught.value


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_of_each_type_becomes_an_rgb_png_of_the_same_look(
    tmp_path: Path, kind: str
) -> None:
    picture = gradient(320, 200)
    picture.save(tmp_path / "upload", format=kind, quality=95)

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    with Image.open(tmp_path / "input.png", formats=("PNG",)) as result:
        assert (result.mode, result.size) == ("RGB", (320, 200))
        for place in [(10, 10), (300, 10), (160, 190)]:
            assert result.getpixel(place) == pytest.approx(picture.getpixel(place), abs=12)
    assert (info.width, info.height, info.format) == (320, 200, kind.lower())
    assert info.bytes == (tmp_path / "upload").stat().st_size
    assert info.sha256 == file_sha256(tmp_path / "upload")


def test_a_large_picture_shrinks_to_the_longest_side(tmp_path: Path) -> None:
    gradient(3000, 2000).save(tmp_path / "upload", format="JPEG")

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert (info.width, info.height) == (1920, 1280)


def test_odd_sides_are_padded_by_repeating_the_edge(tmp_path: Path) -> None:
    gradient(101, 99).save(tmp_path / "upload", format="PNG")

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert (info.width, info.height) == (102, 100)
    with Image.open(tmp_path / "input.png") as result:
        column = [result.getpixel((100, y)) for y in range(100)]
        assert [result.getpixel((101, y)) for y in range(100)] == column
        row = [result.getpixel((x, 98)) for x in range(102)]
        assert [result.getpixel((x, 99)) for x in range(102)] == row


def test_exif_orientation_is_applied_and_exif_is_gone(tmp_path: Path) -> None:
    picture = gradient(200, 100)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    exif[0x010E] = "where I live"
    picture.save(tmp_path / "upload", format="JPEG", exif=exif, quality=95)

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert (info.width, info.height) == (100, 200)
    with Image.open(tmp_path / "input.png") as result:
        result.load()
        # The picture's left bottom corner (green) has become the left top one.
        assert result.getpixel((2, 2)) == pytest.approx(picture.getpixel((2, 97)), abs=16)
        assert not result.getexif()
        assert not result.info
    assert b"where I live" not in (tmp_path / "input.png").read_bytes()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "1", "CMYK"])
def test_every_pixel_mode_becomes_rgb_of_the_same_brightness(tmp_path: Path, mode: str) -> None:
    picture = Image.new("L", (96, 96), 200)
    if mode == "I;16":
        picture = Image.frombytes("I;16", (96, 96), struct.pack("<H", 200 * 257) * 96 * 96)
    else:
        picture = picture.convert("RGB").convert(mode)
    picture.save(tmp_path / "upload", format="JPEG" if mode == "CMYK" else "PNG")

    accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    with Image.open(tmp_path / "input.png") as result:
        shades = result.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert shades == pytest.approx(200, abs=4 if mode != "1" else 12)


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (80, 80), (255, 0, 0, 0)).save(tmp_path / "upload", format="PNG")

    accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    with Image.open(tmp_path / "input.png") as result:
        assert result.getpixel((40, 40)) == (255, 255, 255)


def test_a_colour_profile_is_converted_and_removed(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gradient(96, 96).save(tmp_path / "upload", format="PNG", icc_profile=profile)

    accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    with Image.open(tmp_path / "input.png") as result:
        assert "icc_profile" not in result.info
        assert result.getpixel((48, 48)) == pytest.approx(
            gradient(96, 96).getpixel((48, 48)), abs=2
        )


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (80, 80), colour) for colour in ("blue", "red")]
    frames[0].save(
        tmp_path / "upload", format="WEBP", save_all=True, append_images=frames[1:], lossless=True
    )

    accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    with Image.open(tmp_path / "input.png") as result:
        assert result.getpixel((40, 40)) == (0, 0, 255)


def test_a_bomb_is_refused_before_its_pixels_are_decoded(tmp_path: Path) -> None:
    Image.new("1", (25_000, 25_000)).save(tmp_path / "upload", format="PNG")

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS))

    assert error.code is ErrorCode.FILE_TOO_LARGE
    assert error.params == {"width": 25_000, "height": 25_000, "max_pixels": 50_000_000}
    assert not (tmp_path / "input.png").exists()


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    gradient(300, 300).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", ErrorCode.UNDECODABLE_MEDIA, id="empty"),
        pytest.param(b"a text\n" * 99, ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="text"),
        pytest.param(b"<svg></svg>", ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="svg"),
        pytest.param(b"GIF89a" + b"\0" * 99, ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="gif"),
        pytest.param(b"\xff\xd8\xff" + b"\0" * 99, ErrorCode.UNDECODABLE_MEDIA, id="head-only"),
        pytest.param(jpeg_bytes()[:2000], ErrorCode.UNDECODABLE_MEDIA, id="truncated"),
    ],
)
def test_what_is_not_a_picture_is_refused(tmp_path: Path, content: bytes, code: ErrorCode) -> None:
    (tmp_path / "upload").write_bytes(content)

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS))

    assert error.code is code
    assert error.detail.endswith(".")
    assert str(tmp_path) not in error.detail + str(error.params)


def test_a_picture_too_small_for_any_face_is_refused(tmp_path: Path) -> None:
    gradient(200, 63).save(tmp_path / "upload", format="PNG")

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS))

    assert error.code is ErrorCode.FACE_TOO_SMALL


def test_a_picture_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    gradient(200, 200).save(tmp_path / "upload", format="PNG")
    limits = IntakeLimits(max_image_bytes=100)

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", limits))

    assert error.code is ErrorCode.FILE_TOO_LARGE


def test_a_decoder_that_runs_out_of_memory_takes_only_itself_along(tmp_path: Path) -> None:
    Image.new("RGB", (6000, 6000)).save(tmp_path / "upload", format="PNG")
    limits = IntakeLimits(memory_bytes=120 * 2**20)

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", limits))

    assert error.code is ErrorCode.UNDECODABLE_MEDIA


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path) -> None:
    gradient(3000, 3000).save(tmp_path / "upload", format="PNG")
    limits = IntakeLimits(wall_clock_s=0.001)

    error = refused(lambda: accept_image(tmp_path / "upload", tmp_path / "input.png", limits))

    assert error.code is ErrorCode.UNDECODABLE_MEDIA
    assert "longer than" in error.detail


# --- sounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "demuxer"),
    [
        ("wav", "wav"),
        ("mp3", "mp3"),
        ("m4a", "mov"),
        ("flac", "flac"),
        ("ogg", "ogg"),
        ("webm", "matroska"),
        ("aac", "aac"),
    ],
)
def test_a_sound_of_each_type_becomes_two_files_of_its_length(
    tmp_path: Path, suffix: str, demuxer: str
) -> None:
    wav = write_wav(tmp_path / "tone.wav", 1.0)
    upload = tmp_path / "upload"
    # Whatever the type, the name says nothing.
    convert(wav, tmp_path / f"tone-2.{suffix}").rename(upload)
    speech, sound = tmp_path / "speech.flac", tmp_path / "sound.flac"

    info = accept_audio(upload, speech, sound, LIMITS)

    assert info.format == demuxer
    assert info.sha256 == file_sha256(upload)
    # Lossy codecs may keep a packet of their padding.
    assert info.seconds == pytest.approx(1.0, abs=0.15)
    spoken, track = flac_stream(speech), flac_stream(sound)
    assert (spoken.sample_rate_hz, spoken.channels) == (16_000, 1)
    assert (track.sample_rate_hz, track.channels) == (48_000, 1)
    assert track.seconds == pytest.approx(spoken.seconds, abs=0.002)


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (2, 2), (6, 2)])
def test_the_sound_keeps_its_channels_up_to_stereo(
    tmp_path: Path, channels: int, kept: int
) -> None:
    upload = write_wav(tmp_path / "upload", 0.5, rate_hz=48_000, channels=channels)

    info = accept_audio(upload, tmp_path / "speech.flac", tmp_path / "sound.flac", LIMITS)

    assert info.channels == kept
    assert flac_stream(tmp_path / "sound.flac").num_samples == 24_000


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(0.1, ErrorCode.AUDIO_TOO_SHORT), (3.2, ErrorCode.AUDIO_TOO_LONG)],
)
def test_a_sound_outside_the_bounds_is_refused(
    tmp_path: Path, seconds: float, code: ErrorCode
) -> None:
    upload = write_wav(tmp_path / "upload", seconds)
    limits = IntakeLimits(max_audio_s=3.0)

    error = refused(
        lambda: accept_audio(upload, tmp_path / "speech.flac", tmp_path / "sound.flac", limits)
    )

    assert error.code is code


def test_the_sound_keeps_its_sides_and_its_treble(tmp_path: Path) -> None:
    rate_hz = 48_000
    times = np.arange(rate_hz) / rate_hz
    left, right = np.sin(2 * np.pi * 12_000 * times), np.sin(2 * np.pi * 500 * times)
    soundfile.write(tmp_path / "upload", 0.5 * np.stack([left, right], 1), rate_hz, format="WAV")

    accept_audio(tmp_path / "upload", tmp_path / "speech.flac", tmp_path / "sound.flac", LIMITS)

    sound, _ = soundfile.read(tmp_path / "sound.flac")
    speech, _ = soundfile.read(tmp_path / "speech.flac")
    assert np.abs(sound[:, 0] - 0.5 * left).max() < 0.01
    assert np.abs(sound[:, 1] - 0.5 * right).max() < 0.01
    # The analysis signal ends at 8 kHz: only the low tone is left, from the same first sample on.
    expected = right[::3]
    assert speech.shape == expected.shape
    assert np.corrcoef(speech, expected)[0, 1] > 0.999


def test_silence_is_no_error(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "upload"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(32_000))

    info = accept_audio(
        tmp_path / "upload", tmp_path / "speech.flac", tmp_path / "sound.flac", LIMITS
    )

    assert info.seconds == 1.0


def playlist_of(secret: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n".encode()


def test_a_playlist_renamed_wav_reads_no_other_file(tmp_path: Path) -> None:
    secret = write_wav(tmp_path / "secret.wav", 1.0)
    upload = tmp_path / "upload"

    upload.write_bytes(playlist_of(secret))
    plain = refused(lambda: accept_audio(upload, tmp_path / "a", tmp_path / "b", LIMITS))
    # The magic bytes of a WAV in front do not help it either.
    upload.write_bytes(b"RIFF\x24\x00\x00\x00WAVE" + playlist_of(secret))
    disguised = refused(lambda: accept_audio(upload, tmp_path / "a", tmp_path / "b", LIMITS))

    assert plain.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert disguised.code is ErrorCode.UNDECODABLE_MEDIA


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", ErrorCode.UNDECODABLE_MEDIA, id="empty"),
        pytest.param(b"a text\n" * 99, ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="text"),
        pytest.param(jpeg_bytes(), ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="picture"),
        pytest.param(b"fLaC" + b"\0" * 99, ErrorCode.UNDECODABLE_MEDIA, id="head-only"),
        pytest.param(b"ID3" + b"\0" * 99, ErrorCode.UNSUPPORTED_MEDIA_TYPE, id="tag-only"),
    ],
)
def test_what_is_not_a_sound_is_refused(tmp_path: Path, content: bytes, code: ErrorCode) -> None:
    (tmp_path / "upload").write_bytes(content)

    error = refused(
        lambda: accept_audio(tmp_path / "upload", tmp_path / "a", tmp_path / "b", LIMITS)
    )

    assert error.code is code
    assert str(tmp_path) not in error.detail + str(error.params)


def test_a_film_without_a_sound_track_is_refused(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "still.png")
    silent = convert(tmp_path / "still.png", tmp_path / "silent.mp4", "-pix_fmt", "yuv420p")

    error = refused(lambda: accept_audio(silent, tmp_path / "a", tmp_path / "b", LIMITS))

    assert error.code is ErrorCode.UNDECODABLE_MEDIA
