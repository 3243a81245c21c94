"""What broken input gets from a live service: a 4xx problem with a code and a helpful sentence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import soundfile
from PIL import Image

# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("service")


def write_huge_png(path: Path) -> None:
    """A genuine PNG of 25 000 x 25 000 grey pixels, some 100 kB small."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    side = 25_000
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xaa" * (side // 8)
    pixels = b"".join(packer.compress(row * 1_000) for _ in range(side // 1_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_small_picture(path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()[:40, :40]).save(path, format="PNG")


def write_text(path: Path) -> None:
    path.write_text("This is neither a picture nor a sound.\n" * 100)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_cut_picture(path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:3_000])


def write_svg(path: Path) -> None:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')


def write_short_sound(path: Path) -> None:
    soundfile.write(path, np.zeros(1_600), 16_000, format="WAV")


def write_long_sound(path: Path) -> None:
    soundfile.write(path, np.zeros(8_000 * 610, np.int16), 8_000, format="FLAC")


def write_playlist(path: Path) -> None:
    secret = path.parent / "secret.txt"
    secret.write_text("nobody's business")
    path.write_text(
        f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST"
    )


def write_hollow_wav(path: Path) -> None:
    path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt " + b"\xff" * 200)


def write_silent_film(path: Path) -> None:
    # An MP4 that begins like a sound file of that family and holds no track at all.
    path.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"M4A ", 0, b"isom"))


Writer = Callable[[Path], None]


@pytest.mark.parametrize(
    ("write", "status", "code"),
    [
        (write_text, 415, "unsupported_media_type"),
        (write_svg, 415, "unsupported_media_type"),
        (write_nothing, 422, "undecodable_media"),
        (write_cut_picture, 422, "undecodable_media"),
        (write_huge_png, 413, "file_too_large"),
        (write_small_picture, 422, "face_too_small"),
    ],
)
def test_a_bad_picture_is_refused(
    server: Any, tmp_path: Path, voice: Path, write: Writer, status: int, code: str
) -> None:
    write(tmp_path / "picture.png")

    assert_problem(server, server.post(tmp_path / "picture.png", voice), status, code)


@pytest.mark.parametrize(
    ("write", "status", "code"),
    [
        (write_text, 415, "unsupported_media_type"),
        (write_playlist, 415, "unsupported_media_type"),
        (write_nothing, 422, "undecodable_media"),
        (write_hollow_wav, 422, "undecodable_media"),
        (write_silent_film, 422, "undecodable_media"),
        (write_short_sound, 422, "audio_too_short"),
        (write_long_sound, 422, "audio_too_long"),
    ],
)
def test_a_bad_sound_is_refused(
    server: Any, tmp_path: Path, portrait: Path, write: Writer, status: int, code: str
) -> None:
    write(tmp_path / "sound.wav")

    assert_problem(server, server.post(portrait, tmp_path / "sound.wav"), status, code)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": "-1"},
        {"seed": str(2**32)},
        {"seed": "one"},
        {"preset": "turbo"},
        {"fps": "9"},
        {"fps": "61"},
        {"fps": "nan"},
        {"face_index": "16"},
        {"num_inference_steps": "0"},
        {"num_inference_steps": "51"},
        {"preset": "preview", "num_inference_steps": "4"},
        {"lip_strength": "2.1"},
        {"lip_strength": "inf"},
        {"motion": "wild"},
        {"motion": "1.6"},
        {"no_such_option": "1"},
    ],
)
def test_an_option_out_of_range_is_refused(
    server: Any, portrait: Path, voice: Path, options: dict[str, str]
) -> None:
    answer = server.post(portrait, voice, **options)

    assert_problem(server, answer, 422, "invalid_options")
    assert next(iter(options)) in answer.json()["detail"]


def test_a_missing_file_is_told(server: Any, voice: Path) -> None:
    answer = server.client.post("/v1/talking-face", files={"audio": ("a.wav", voice.read_bytes())})

    assert_problem(server, answer, 422, "invalid_options")
    assert "image" in answer.json()["detail"]


def test_a_body_over_the_limit_is_refused(server: Any, portrait: Path, voice: Path) -> None:
    too_long = voice.read_bytes() + bytes(60 * 2**20)
    files = {"image": ("a.png", portrait.read_bytes()), "audio": ("a.wav", too_long)}

    answer = server.client.post("/v1/talking-face", files=files)

    assert_problem(server, answer, 413, "file_too_large")


def test_an_unknown_job_is_told(server: Any) -> None:
    assert_problem(server, server.client.get(f"/v1/jobs/{'0' * 32}"), 404, "job_not_found")


def test_silence_is_no_error(server: Any, tmp_path: Path, portrait: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)

    answer = server.post(portrait, tmp_path / "silence.wav")

    assert answer.status_code == 202
    assert server.wait_for_end(answer.json())["state"] == "succeeded"


def assert_problem(server: Any, answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:talkface:problem:{code}"
    assert problem["detail"].endswith((".", "?"))
    assert len(problem["detail"]) > 20
    assert problem["request_id"] == answer.headers["x-request-id"]
    # No insides: neither a path of the server nor a traceback.
    assert str(server.data_dir) not in answer.text
    assert "Traceback" not in answer.text
    # The service goes on.
    assert server.client.get("/readyz").status_code == 200
