"""Every format of the table, as programs write it: behind tags, cut at the start, and in the wrong field."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from model.media.video_reader import read_frames
from tests.films import H264, ffmpeg, film
from tests.heif import write_heic
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.formats import FORMATS, Role, sniff, table, types_of
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.pictures import accept_image
from worker.contract.intake.sniffing import SNIFF_BYTES, check_head, sniff_file
from worker.contract.intake.sounds import AudioInfo, accept_audio
from worker.contract.intake.videos import accept_video

LIMITS = IntakeLimits()
ROOT = Path(__file__).parents[3]


def voice(path: Path, *arguments: str, rate_hz: int = 16_000) -> Path:
    """Two seconds: a low tone, then a high one; the name's suffix chooses the format."""
    tones = (
        f"sine=frequency=300:duration=1:r={rate_hz}[a];sine=frequency=1200:duration=1:r={rate_hz}"
    )
    ffmpeg(
        *("-filter_complex", f"{tones}[b];[a][b]concat=v=0:a=1,volume=4[o]"),
        *("-map", "[o]", *arguments, path),
    )
    return path


def take(upload: Path) -> tuple[AudioInfo, np.ndarray]:
    """The sound that the intake makes of an upload: 16 kHz."""
    speech, sound = upload.with_name("speech.flac"), upload.with_name("sound.flac")
    info = accept_audio(upload, speech, sound, LIMITS)
    return info, soundfile.read(speech)[0]


def pitch_hz(samples: np.ndarray) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.fft.rfftfreq(len(samples), 1 / 16_000)[spectrum.argmax()])


def refusal(call: object) -> IntakeError:
    assert callable(call)
    with pytest.raises(IntakeError) as caught:
        call()
    return caught.value


# --- sounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "demuxer"),
    [
        ("a.wav", ("-rf64", "always"), "wav"),
        ("a.w64", (), "w64"),
        ("a.aiff", (), "aiff"),
        ("le.aiff", ("-c:a", "pcm_s16le"), "aiff"),
        ("a.caf", (), "caf"),
        ("alac.caf", ("-c:a", "alac"), "caf"),
        ("a.amr", ("-ar", "8000", "-c:a", "libopencore_amrnb"), "amr"),
        ("a.ts", ("-c:a", "aac"), "mpegts"),
        ("mp2.ts", ("-c:a", "mp2"), "mpegts"),
        ("a.avi", ("-c:a", "pcm_s16le"), "avi"),
        ("a.mp2", ("-c:a", "mp2"), "mp3"),
        ("a.mp3", ("-write_xing", "0", "-id3v2_version", "0"), "mp3"),
        ("a.3gp", ("-ar", "8000", "-c:a", "libopencore_amrnb"), "mov"),
    ],
)
def test_a_sound_of_each_format_is_heard_whole(
    tmp_path: Path, name: str, arguments: tuple[str, ...], demuxer: str
) -> None:
    upload = voice(tmp_path / name, *arguments).rename(tmp_path / "upload")

    info, samples = take(upload)

    assert info.format == demuxer
    assert info.seconds == pytest.approx(2.0, abs=0.15)
    assert pitch_hz(samples[4000:12_000]) == pytest.approx(300, abs=5)
    assert pitch_hz(samples[20_000:28_000]) == pytest.approx(1200, abs=5)


def id3(num_bytes: int = 300, *, footer: bool = False) -> bytes:
    size = bytes(num_bytes >> 7 * shift & 0x7F for shift in (3, 2, 1, 0))
    head = b"\x04\x00" + (b"\x10" if footer else b"\x00") + size
    # Cover art has bytes of every kind, even such as begin a frame.
    art = (b"\xff\xfb\x90\x00" + bytes(range(256)))[:num_bytes].ljust(num_bytes, b"\x55")
    return b"ID3" + head + art + (b"3DI" + head if footer else b"")


def ape(num_bytes: int = 200) -> bytes:
    flags = 0xA000_0000
    head = b"APETAGEX" + struct.pack("<IIII", 2000, num_bytes + 32, 1, flags) + bytes(8)
    return head + b"t" * num_bytes + head


@pytest.mark.parametrize("kind", ["flac", "mp3", "aac", "wav", "ogg", "aiff"])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(id3(), id="id3"),
        pytest.param(id3(60_000), id="long-id3"),
        pytest.param(id3(footer=True), id="id3-footer"),
        pytest.param(id3() + bytes(5000), id="id3-padding"),
        pytest.param(id3() + id3(), id="two-id3"),
        pytest.param(ape(), id="ape"),
        pytest.param(bytes(7001), id="zeros"),
    ],
)
def test_what_a_tag_or_padding_precedes_is_sniffed_behind_it(
    tmp_path: Path, kind: str, before: bytes
) -> None:
    plain = voice(tmp_path / f"plain.{kind}", "-map_metadata", "-1")
    (tmp_path / "upload").write_bytes(before + plain.read_bytes())
    check_head(before[:SNIFF_BYTES], "audio", "audio")

    sniffed = sniff_file(tmp_path / "upload", "audio", "audio")
    info, samples = take(tmp_path / "upload")

    assert sniffed.reader == info.format == kind
    assert info.seconds == pytest.approx(2.0, abs=0.15)
    assert pitch_hz(samples[20_000:28_000]) == pytest.approx(1200, abs=5)


@pytest.mark.parametrize(
    ("kind", "arguments", "missing"),
    [
        ("mp3", ("-b:a", "128k", "-id3v2_version", "0"), 77),
        ("mp3", ("-b:a", "320k", "-id3v2_version", "0"), 500),
        ("aac", ("-b:a", "96k"), 33),
        ("mp2", ("-b:a", "192k"), 100),
        ("ts", ("-c:a", "aac"), 101),
    ],
)
def test_a_stream_that_was_cut_inside_its_first_frame_is_taken(
    tmp_path: Path, kind: str, arguments: tuple[str, ...], missing: int
) -> None:
    plain = voice(tmp_path / f"plain.{kind}", *arguments, rate_hz=44_100)
    (tmp_path / "upload").write_bytes(plain.read_bytes()[missing:])

    info, samples = take(tmp_path / "upload")

    assert info.seconds == pytest.approx(2.0, abs=0.15)
    assert pitch_hz(samples[-8000:-2000]) == pytest.approx(1200, abs=5)


# --- pictures -----------------------------------------------------------------------------------


def four_colours(width: int = 160, height: int = 128) -> Image.Image:
    """A flat quarter of each colour."""
    small = Image.new("RGB", (2, 2))
    small.putdata([(200, 60, 50), (60, 180, 70), (50, 70, 190), (220, 210, 90)])
    return small.resize((width, height), Image.Resampling.NEAREST)


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_a_heic_picture_comes_upright_and_in_its_colours(
    tmp_path: Path, quarter_turns: int
) -> None:
    upload = write_heic(tmp_path / "upload", four_colours(), quarter_turns=quarter_turns)

    info = accept_image(upload, tmp_path / "input.png", LIMITS)

    expected = four_colours().rotate(90 * quarter_turns, expand=True)
    assert (info.format, info.width, info.height) == ("heif", *expected.size)
    with Image.open(tmp_path / "input.png") as result:
        for x in (0.25, 0.75):
            for y in (0.25, 0.75):
                place = (int(x * expected.width), int(y * expected.height))
                assert result.getpixel(place) == pytest.approx(expected.getpixel(place), abs=6)


@pytest.mark.parametrize(
    ("brand", "more", "name"),
    [(b"mif1", b"heic", "HEIC"), (b"heix", b"", "HEIC"), (b"isom", b"", "MP4/MOV/M4A")],
)
def test_brands_tell_pictures_from_films(
    tmp_path: Path, brand: bytes, more: bytes, name: str
) -> None:
    upload = write_heic(tmp_path / "upload", four_colours(), brand=brand, more=more)

    found = sniff(upload.read_bytes()[:SNIFF_BYTES])

    assert found is not None
    assert found[0].name == name


def test_half_a_heic_picture_is_refused(tmp_path: Path) -> None:
    upload = write_heic(tmp_path / "upload", four_colours())
    upload.write_bytes(upload.read_bytes()[:-300])

    error = refusal(lambda: accept_image(upload, tmp_path / "input.png", LIMITS))

    assert (error.code, "HEIC" in error.detail) == (ErrorCode.UNDECODABLE_MEDIA, True)


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": 95, "subsampling": "4:4:4"}])
def test_an_avif_picture_comes_in_its_colours(tmp_path: Path, options: dict[str, object]) -> None:
    four_colours().save(tmp_path / "upload", format="AVIF", **options)

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert (info.format, info.width, info.height) == ("avif", 160, 128)
    with Image.open(tmp_path / "input.png") as result:
        assert result.getpixel((40, 96)) == pytest.approx((50, 70, 190), abs=6)


def test_an_avif_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    four_colours().save(tmp_path / "upload", format="AVIF", quality=95, exif=exif)

    info = accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert (info.width, info.height) == (128, 160)
    with Image.open(tmp_path / "input.png") as result:
        assert result.getpixel((32, 40)) == pytest.approx((50, 70, 190), abs=6)


def test_a_large_heic_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    upload = write_heic(tmp_path / "upload", four_colours())
    limits = IntakeLimits(max_pixels=10_000)

    error = refusal(lambda: accept_image(upload, tmp_path / "input.png", limits))

    assert error.code is ErrorCode.FILE_TOO_LARGE


# --- films --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "demuxer"),
    [
        ("a.avi", H264, "avi"),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-q:v", "2"), "avi"),
        ("a.ts", H264, "mpegts"),
        ("mpeg2.ts", ("-c:v", "mpeg2video", "-q:v", "2"), "mpegts"),
        ("a.m2ts", H264, "mpegts"),
        ("a.gif", (), "gif"),
        ("a.webp", ("-c:v", "libwebp_anim", "-lossless", "1"), "webp_anim"),
    ],
)
def test_a_film_of_each_format_keeps_its_frames(
    tmp_path: Path, name: str, arguments: tuple[str, ...], demuxer: str
) -> None:
    upload = film(tmp_path / name, *(arguments or ("-c:v", "gif"))).rename(tmp_path / "upload")
    film(tmp_path / "right.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0")

    info = accept_video(upload, tmp_path / "input.mkv", LIMITS, 25.0)

    assert (info.format, info.width, info.height) == (demuxer, 160, 90)
    # GIF counts in hundredths of a second and WebP in thousandths, both without a loss at 25 fps.
    assert info.num_frames == 25
    right = np.stack(list(read_frames(tmp_path / "right.mkv", fps=None))).astype(int)
    got = np.stack(list(read_frames(tmp_path / "input.mkv", fps=None))).astype(int)
    # A frame is nearer to the one that it should be than to its neighbours.
    distances = [[np.abs(a - b).mean() for b in right] for a in got[[0, 7, 24]]]
    assert [int(np.argmin(row)) for row in distances] == [0, 7, 24]


def test_an_animated_webp_is_a_film_and_a_still_one_is_not(tmp_path: Path) -> None:
    four_colours().save(tmp_path / "upload", format="WEBP")

    error = refusal(lambda: accept_video(tmp_path / "upload", tmp_path / "i.mkv", LIMITS, 25.0))

    assert error.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert "it is WebP, which is taken as `image`" in error.detail


# --- the table ----------------------------------------------------------------------------------


def test_the_documentation_has_the_table_as_it_is() -> None:
    assert table() in (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ["image", "audio", "video"])
def test_errors_name_every_format_of_the_table(tmp_path: Path, role: Role) -> None:
    (tmp_path / "upload").write_bytes(b"a text\n" * 900)

    error = refusal(lambda: sniff_file(tmp_path / "upload", role, "file"))

    assert error.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    for one in FORMATS:
        if one.reader(role):
            assert one.name in types_of(role)
            assert one.name in error.detail


@pytest.mark.parametrize(
    ("write", "role", "words"),
    [
        (
            lambda path: four_colours().save(path, format="GIF"),
            "image",
            "GIF, which is taken as `v",
        ),
        (lambda path: voice(path.with_suffix(".flac")).rename(path), "video", "FLAC"),
        (lambda path: four_colours().save(path, format="AVIF"), "audio", "AVIF"),
    ],
)
def test_a_known_format_in_the_wrong_field_is_told_where_to_go(
    tmp_path: Path, write: object, role: Role, words: str
) -> None:
    assert callable(write)
    write(tmp_path / "upload")

    error = refusal(lambda: sniff_file(tmp_path / "upload", role, "file"))

    assert words in error.detail
