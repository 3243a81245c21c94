"""Files that are two things at once, or not what they say: nothing of the second thing is left."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.films import film
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.pictures import accept_image
from worker.contract.intake.sounds import accept_audio
from worker.contract.intake.videos import accept_video

LIMITS = IntakeLimits()
MARK = b"<?php talkface-mark ?>"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("mark", MARK)
    return buffer.getvalue()


def picture(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, format=kind, **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = MARK.decode()
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 30.0)  # GPS latitude
    return exif


def png_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MARK.decode())
    text.add_itxt("XML:com.adobe.xmp", MARK.decode())
    return text


def tone(seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(struct.pack("<h", 3000) * round(16_000 * seconds))
    return buffer.getvalue()


def riff_chunk(sound: bytes, name: bytes, content: bytes) -> bytes:
    """The WAV with one more chunk, and a length that counts it."""
    body = sound[8:] + name + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param(lambda: picture("JPEG") + archive(), id="jpeg-and-zip"),
        pytest.param(lambda: picture("PNG") + archive(), id="png-and-zip"),
        pytest.param(lambda: picture("WEBP") + MARK, id="webp-and-script"),
        pytest.param(lambda: picture("JPEG", comment=MARK), id="jpeg-comment"),
        pytest.param(lambda: picture("JPEG", exif=exif()), id="jpeg-exif"),
        pytest.param(lambda: picture("WEBP", exif=exif()), id="webp-exif"),
        pytest.param(lambda: picture("PNG", exif=exif()), id="png-exif"),
        pytest.param(lambda: picture("WEBP", xmp=MARK), id="webp-xmp"),
        pytest.param(lambda: picture("PNG", pnginfo=png_text()), id="png-text"),
        pytest.param(lambda: picture("JPEG", icc_profile=MARK), id="jpeg-profile"),
    ],
)
def test_of_a_picture_only_pixels_are_left(tmp_path: Path, upload: Callable[[], bytes]) -> None:
    content = upload()
    assert MARK in content
    (tmp_path / "upload").write_bytes(content)

    accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    left = (tmp_path / "input.png").read_bytes()
    assert MARK not in left and b"talkface-mark" not in left
    with Image.open(io.BytesIO(left)) as result:
        result.load()
        assert not result.info and not result.getexif()
    # Header, pixels, end: no other chunk.
    assert chunks_of(left) <= {b"IHDR", b"IDAT", b"IEND"}
    assert left.endswith(b"IEND\xaeB`\x82")


def chunks_of(png: bytes) -> set[bytes]:
    names, place = set(), 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        names.add(png[place + 4 : place + 8])
        place += 12 + length
    return names


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param(lambda: tone() + archive(), id="wav-and-zip"),
        pytest.param(lambda: riff_chunk(tone(), b"LIST", MARK), id="wav-list"),
        pytest.param(lambda: riff_chunk(tone(), b"id3 ", MARK), id="wav-id3"),
    ],
)
def test_of_a_sound_only_samples_are_left(tmp_path: Path, upload: Callable[[], bytes]) -> None:
    content = upload()
    assert MARK in content
    (tmp_path / "upload").write_bytes(content)

    info = accept_audio(tmp_path / "upload", tmp_path / "a.flac", tmp_path / "b.flac", LIMITS)

    assert info.seconds == 0.5
    for name in ("a.flac", "b.flac"):
        assert MARK not in (tmp_path / name).read_bytes()


def test_of_a_video_only_pictures_are_left(tmp_path: Path) -> None:
    upload = film(tmp_path / "film.mp4")
    upload.write_bytes(upload.read_bytes() + archive())

    accept_video(upload, tmp_path / "input.mkv", LIMITS, 25.0)

    assert MARK not in (tmp_path / "input.mkv").read_bytes()


def test_a_picture_inside_a_sound_is_no_sound_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(riff_chunk(tone(), b"JUNK", picture("PNG")))

    accept_audio(tmp_path / "upload", tmp_path / "a.flac", tmp_path / "b.flac", LIMITS)
    with pytest.raises(IntakeError) as caught:
        accept_image(tmp_path / "upload", tmp_path / "input.png", LIMITS)

    assert caught.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE


def playlist(secret: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n".encode()


HEADS = {
    "plain": b"",
    "wav": b"RIFF\x24\x00\x00\x00WAVE",
    "id3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "ogg": b"OggS",
    "flac": b"fLaC",
    "mov": b"\x00\x00\x00\x14ftypM4A \x00\x00\x00\x00isom",
    "matroska": b"\x1a\x45\xdf\xa3",
    "mpeg": b"\xff\xfb\x90\x00",
    "adts": b"\xff\xf1\x50\x80",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("list_of", ["hls", "concat", "sdp"])
def test_a_list_of_files_opens_no_other_file(tmp_path: Path, head: str, list_of: str) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(tone(3.0))
    lines = {
        "hls": playlist(secret),
        "concat": f"ffconcat version 1.0\nfile {secret}\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    }
    (tmp_path / "upload").write_bytes(HEADS[head] + b"\n" + lines[list_of])

    with pytest.raises(IntakeError) as caught:
        accept_audio(tmp_path / "upload", tmp_path / "a", tmp_path / "b", LIMITS)

    assert caught.value.code in (ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.UNDECODABLE_MEDIA)
    assert str(tmp_path) not in caught.value.detail + str(caught.value.params)
