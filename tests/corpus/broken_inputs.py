"""The corpus of broken and odd inputs: several hundred files, the same in every run.

Each is sent as one part of an otherwise good request. `verdict` says what is known beforehand:
accepted, refused, or either, as with a flipped bit that may hit a pixel or a header.
"""

from __future__ import annotations

import io
import random
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image, PngImagePlugin

from tests.corpus.png_parts import png_bomb, png_chunks, png_of, reinterlaced, with_png_size
from tests.films import ffmpeg, film
from tests.heif import write_heic

Part = Literal["image", "audio", "video"]
Verdict = Literal["accepted", "refused", "either"]

AUDIO_KINDS: Final = (
    *("wav", "mp3", "m4a", "flac", "ogg", "webm", "aac"),
    *("aiff", "caf", "w64", "amr", "ts", "avi", "mp2", "mka"),
)
_AUDIO_CODECS: Final = {"amr": ("-ar", "8000", "-c:a", "libopencore_amrnb")}
VIDEO_KINDS: Final = ("mp4", "mov", "mkv", "webm", "avi", "ts", "gif", "webp")
_VIDEO_CODECS: Final = {
    "webm": ("-c:v", "libvpx", "-b:v", "200k"),
    "gif": ("-c:v", "gif"),
    "webp": ("-c:v", "libwebp_anim"),
}
FOREIGN: Final = {
    "text": b"a text\n" * 200,
    "html": b"<!doctype html><script>alert(1)</script>" * 20,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>' * 5,
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"1 0 obj\n" * 50,
    "gif": b"GIF89a\x60\x00\x50\x00\xf0\x00\x00" + b"\x00" * 300,
    "bmp": b"BM" + b"\x00" * 300,
    "tiff": b"II*\x00\x08\x00\x00\x00" + b"\x00" * 300,
    "icon": b"\x00\x00\x01\x00\x01\x00" + b"\x00" * 300,
    "psd": b"8BPS\x00\x01" + b"\x00" * 300,
    "elf": b"\x7fELF\x02\x01\x01" + b"\x00" * 300,
    "gzip": b"\x1f\x8b\x08" + b"\x00" * 300,
    "zip": b"PK\x03\x04" + b"\x00" * 300,
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n" * 9,
    "pickle": b"\x80\x04\x95" + b"cos\nsystem\n" * 30,
    "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
}


@dataclass(frozen=True)
class Case:
    """One file, the part it is sent as, and what must become of it."""

    name: str
    part: Part
    content: bytes
    verdict: Verdict = "either"


def make_corpus(folder: Path) -> list[Case]:
    """All cases; `folder` takes what ffmpeg needs on the way."""
    cases = [*_pictures(folder), *_sounds(folder), *_videos(folder)]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def tone(
    seconds: float = 0.5, *, rate_hz: int = 16_000, channels: int = 1, width: int = 2
) -> bytes:
    """A WAV of a saw tooth."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate_hz)
        step = max(1, 2 ** (8 * width - 1) // 64)
        samples = ((index % 60) * step for index in range(round(seconds * rate_hz)))
        out.writeframes(b"".join(value.to_bytes(width, "little") * channels for value in samples))
    return buffer.getvalue()


def picture(
    kind: str = "JPEG",
    *,
    mode: str = "RGB",
    size: tuple[int, int] = (120, 90),
    prepare: Callable[[Image.Image], Image.Image] = lambda image: image,
    **options: object,
) -> bytes:
    """A gradient."""
    image = Image.linear_gradient("L").resize(size).convert("RGB").convert(mode)
    buffer = io.BytesIO()
    prepare(image).save(buffer, format=kind, **options)
    return buffer.getvalue()


def _gradient() -> Image.Image:
    return Image.linear_gradient("L").resize((120, 90)).convert("RGB")


# --- ways to break a file -----------------------------------------------------------------------


def _cut(name: str, part: Part, content: bytes, times: int) -> Iterator[Case]:
    for number in range(1, times + 1):
        length = len(content) * number // (times + 1)
        yield Case(f"{name}-cut-{number}", part, content[:length])


def _flipped(name: str, part: Part, content: bytes, times: int) -> Iterator[Case]:
    for number in range(times):
        dice = random.Random(f"{name}-{number}")
        changed = bytearray(content)
        # Half of them hit the header, where it hurts most.
        reach = len(content) if number % 2 else min(len(content), 200)
        for _ in range(1 + number // 2):
            changed[dice.randrange(reach)] ^= 1 << dice.randrange(8)
        yield Case(f"{name}-flipped-{number}", part, bytes(changed))


def _holes(name: str, part: Part, content: bytes, times: int) -> Iterator[Case]:
    for number in range(times):
        dice = random.Random(f"{name}-hole-{number}")
        start = dice.randrange(len(content))
        length = min(len(content) - start, dice.choice((4, 64, 1000)))
        filler = (b"\x00", b"\xff")[number % 2] * length
        changed = content[:start] + filler + content[start + length :]
        yield Case(f"{name}-hole-{number}", part, changed)


def _stretched(name: str, part: Part, content: bytes, verdict: Verdict) -> Iterator[Case]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.html", "<script>alert(1)</script>")
    yield Case(f"{name}-and-zip", part, content + buffer.getvalue(), verdict)
    yield Case(f"{name}-and-script", part, content + b"<?php system($_GET[0]); ?>", verdict)
    yield Case(f"{name}-twice", part, content + content)
    yield Case(f"{name}-behind-text", part, b"\n\n" + content)
    yield Case(f"{name}-behind-zip", part, buffer.getvalue() + content, "refused")


def _foreign(part: Part) -> Iterator[Case]:
    yield Case(f"{part}-empty", part, b"", "refused")
    yield Case(f"{part}-one-byte", part, b"\xff", "refused")
    for name, content in FOREIGN.items():
        # Bytes that are all ones begin like MPEG audio; there is no frame in them.
        yield Case(f"{part}-{name}", part, content, "refused")


# --- pictures -----------------------------------------------------------------------------------


def _pictures(folder: Path) -> Iterator[Case]:
    plain = {
        "jpeg": picture("JPEG"),
        "progressive": picture("JPEG", progressive=True),
        "png": picture("PNG"),
        "interlaced-png": reinterlaced(picture("PNG")),
        "webp": picture("WEBP"),
        "lossless-webp": picture("WEBP", lossless=True),
        "avif": picture("AVIF"),
        "heic": write_heic(folder / "picture.heic", _gradient()).read_bytes(),
    }
    for name, content in plain.items():
        yield from _cut(name, "image", content, 8)
        yield from _flipped(name, "image", content, 12)
        yield from _holes(name, "image", content, 4)
    for name in ("jpeg", "png", "webp"):
        yield from _stretched(name, "image", plain[name], "accepted")
    yield from _foreign("image")
    yield Case("image-is-a-sound", "image", tone(), "refused")
    for name, head in {
        "jpeg": b"\xff\xd8\xff",
        "png": b"\x89PNG\r\n\x1a\n",
        "webp": b"RIFF\x00\x00\x00\x00WEBP",
    }.items():
        yield Case(f"{name}-head-only", "image", head, "refused")
        yield Case(f"{name}-head-and-zeros", "image", head + bytes(999), "refused")
        yield Case(f"{name}-head-and-text", "image", head + b"text" * 99, "refused")
    yield from _huge_pictures()
    yield from _odd_pictures()
    yield from _odd_chunks(plain["png"])


def _huge_pictures() -> Iterator[Case]:
    png, jpeg = picture("PNG"), picture("JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    too_large = ((65_535, 65_535), (100_000, 100_000), (2**31 - 1, 2**31 - 1))
    for width, height in (*too_large, (0, 0), (0, 90), (2**31, 1), (1_000_000, 1), (120, 2)):
        content = with_png_size(png, struct.pack(">II", width, height))
        yield Case(f"png-says-{width}x{height}", "image", content, "refused")
    for height, width in ((65_535, 65_535), (65_500, 1000), (0, 120), (90, 0)):
        size = struct.pack(">HH", height, width)
        content = jpeg[:frame] + size + jpeg[frame + 4 :]
        yield Case(f"jpeg-says-{width}x{height}", "image", content, "refused")
    yield Case("one-pixel", "image", picture("PNG", size=(1, 1)), "refused")
    yield Case("a-line", "image", picture("PNG", size=(5000, 1)), "refused")
    yield Case("a-bomb", "image", png_bomb(20_000), "refused")
    yield Case("long-and-thin", "image", picture("JPEG", size=(9000, 64)))


def _odd_pictures() -> Iterator[Case]:
    for kind in ("JPEG", "PNG", "WEBP"):
        for turn in range(10):
            exif = Image.Exif()
            exif[0x0112] = turn
            content = picture(kind, exif=exif)
            yield Case(f"{kind.lower()}-turned-{turn}", "image", content, "accepted")
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        prepare = _sixteen_bit if mode == "I;16" else _unchanged
        content = picture("PNG", mode="RGB" if mode == "I;16" else mode, prepare=prepare)
        yield Case(f"png-mode-{mode}", "image", content, "accepted")
    for mode in ("L", "CMYK"):
        yield Case(f"jpeg-mode-{mode}", "image", picture("JPEG", mode=mode), "accepted")
    yield Case("palette-with-holes", "image", picture("PNG", mode="P", transparency=3), "accepted")
    frames = [Image.new("RGB", (99, 77), colour) for colour in ("red", "green", "blue")]
    for kind in ("WEBP", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format=kind, save_all=True, append_images=frames[1:])
        yield Case(f"animated-{kind.lower()}", "image", buffer.getvalue(), "accepted")
    for name, exif_bytes in {
        "garbage": b"Exif\x00\x00" + b"\xff" * 60,
        "loop": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "cut": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12",
    }.items():
        yield Case(f"exif-{name}", "image", picture("JPEG", exif=exif_bytes))
    for number, profile in enumerate((b"", b"x", b"\x00" * 128, b"acsp" * 99)):
        yield Case(f"profile-{number}", "image", picture("JPEG", icc_profile=profile), "accepted")


def _odd_chunks(png: bytes) -> Iterator[Case]:
    text = PngImagePlugin.PngInfo()
    text.add_text("k", "x" * 2**21, zip=True)
    yield Case("png-text-bomb", "image", picture("PNG", pnginfo=text))
    chunks = png_chunks(png)
    bomb = zlib.compress(bytes(50 * 2**20), 9)
    yield Case("png-profile-bomb", "image", png_of([chunks[0], (b"iCCP", b"a\0\0" + bomb)], chunks))
    yield Case("png-two-headers", "image", png_of([chunks[0], chunks[0]], chunks))
    yield Case("png-no-header", "image", png_of([], chunks), "refused")
    yield Case("png-no-pixels", "image", png_of([chunks[0], (b"IEND", b"")], []), "refused")
    yield Case("png-no-end", "image", png[:-12])
    yield Case("png-wrong-checksum", "image", png[:29] + b"\0\0\0\0" + png[33:], "refused")
    for depth, colour in ((3, 2), (16, 3), (8, 1), (8, 7), (32, 2)):
        header = chunks[0][1][:8] + bytes((depth, colour)) + chunks[0][1][10:]
        content = png_of([(b"IHDR", header)], chunks)
        yield Case(f"png-depth-{depth}-colour-{colour}", "image", content, "refused")


def _unchanged(image: Image.Image) -> Image.Image:
    return image


def _sixteen_bit(image: Image.Image) -> Image.Image:
    samples = b"".join(struct.pack("<H", value * 257) for value in image.convert("L").tobytes())
    return Image.frombytes("I;16", image.size, samples)


# --- sounds -------------------------------------------------------------------------------------


def _sounds(folder: Path) -> Iterator[Case]:
    (folder / "tone.wav").write_bytes(tone(1.0))
    for kind in AUDIO_KINDS:
        codec = _AUDIO_CODECS.get(kind, ())
        ffmpeg("-i", folder / "tone.wav", *codec, folder / f"sound.{kind}")
        content = (folder / f"sound.{kind}").read_bytes()
        yield Case(f"{kind}-whole", "audio", content, "accepted")
        yield from _cut(kind, "audio", content, 6)
        yield from _flipped(kind, "audio", content, 10)
        yield from _holes(kind, "audio", content, 2)
    for kind in ("wav", "mp3", "flac", "ogg"):
        content = (folder / f"sound.{kind}").read_bytes()
        yield from (
            case
            for case in _stretched(f"{kind}-sound", "audio", content, "either")
            # A decoder of MPEG audio looks for the next frame, wherever it begins.
            if not (kind == "mp3" and "behind" in case.name)
        )
    yield from _foreign("audio")
    yield Case("audio-is-a-picture", "audio", picture("PNG"), "refused")
    for name, head in {
        "wav": b"RIFF\x24\x00\x00\x00WAVE",
        "flac": b"fLaC",
        "ogg": b"OggS",
        "mov": b"\x00\x00\x00\x14ftypM4A \x00\x00\x00\x00isom",
        "matroska": b"\x1a\x45\xdf\xa3",
        "id3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
        "mpeg": b"\xff\xfb\x90\x00",
        "adts": b"\xff\xf1\x50\x80",
    }.items():
        yield Case(f"{name}-head-only", "audio", head, "refused")
        yield Case(f"{name}-head-and-text", "audio", head + b"text" * 99, "refused")
        yield Case(f"{name}-head-and-playlist", "audio", head + FOREIGN["playlist"], "refused")
    yield from _odd_sounds(folder)


def _odd_sounds(folder: Path) -> Iterator[Case]:
    for rate_hz in (4000, 7919, 8001, 11_025, 22_050, 44_101, 96_000, 192_000):
        yield Case(f"rate-{rate_hz}", "audio", tone(rate_hz=rate_hz), "accepted")
    for channels in (2, 3, 4, 5, 6, 7, 8):
        yield Case(f"channels-{channels}", "audio", tone(channels=channels), "accepted")
    for channels in (9, 16, 64):
        yield Case(f"channels-{channels}", "audio", tone(0.3, channels=channels))
    for width in (1, 2, 3, 4):
        yield Case(f"width-{width}", "audio", tone(width=width), "accepted")
    for codec in ("pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms"):
        ffmpeg("-i", folder / "tone.wav", "-c:a", codec, folder / "codec.wav")
        yield Case(f"wav-{codec}", "audio", (folder / "codec.wav").read_bytes(), "accepted")
    wav = tone()
    # channels, rate, bytes a second, bytes a frame, bits
    for name, place, form, values in (
        ("format", 20, "<H", (0, 2, 0x55, 0xFFFE, 0xFFFF)),
        ("channels", 22, "<H", (0, 255, 65_535)),
        ("rate", 24, "<I", (0, 1, 7, 2**31, 2**32 - 1)),
        ("frame", 32, "<H", (0, 1, 65_535)),
        ("bits", 34, "<H", (0, 1, 7, 12, 63, 65_535)),
        ("length", 40, "<I", (0, 1, 2**31, 2**32 - 1)),
        ("riff", 4, "<I", (0, 2**32 - 1)),
    ):
        for value in values:
            packed = struct.pack(form, value)
            content = wav[:place] + packed + wav[place + len(packed) :]
            yield Case(f"wav-says-{name}-{value}", "audio", content)
    yield Case("no-samples", "audio", tone(0.0), "refused")
    yield Case("too-short", "audio", tone(0.1), "refused")
    yield Case("too-long", "audio", tone(11.0, rate_hz=8000), "refused")


# --- videos -------------------------------------------------------------------------------------


def _videos(folder: Path) -> Iterator[Case]:
    for kind in VIDEO_KINDS:
        content = film(folder / f"film.{kind}", *_VIDEO_CODECS.get(kind, ())).read_bytes()
        yield Case(f"{kind}-film-whole", "video", content, "accepted")
        yield from _cut(f"{kind}-film", "video", content, 5)
        yield from _flipped(f"{kind}-film", "video", content, 10)
        yield from _holes(f"{kind}-film", "video", content, 3)
    yield from _foreign("video")
    yield Case("video-is-a-sound", "video", tone(), "refused")
    yield Case("video-is-a-picture", "video", picture("JPEG"), "refused")
    sound_only = folder / "sound-only.mp4"
    ffmpeg("-i", folder / "tone.wav", sound_only)
    yield Case("film-without-pictures", "video", sound_only.read_bytes(), "refused")

    def filmed(name: str, *arguments: str, verdict: Verdict, **pattern: object) -> Case:
        path = folder / f"odd-{name}.mp4"
        more = ("-c:v", "libx264", "-pix_fmt", "yuv420p", *arguments)
        return Case(
            f"film-{name}",
            "video",
            film(path, *more, **pattern).read_bytes(),
            verdict,  # type: ignore[arg-type]
        )

    uneven = "select='not(mod(n\\,3))+lt(n\\,9)'"
    yield filmed("uneven", "-vf", uneven, "-fps_mode", "vfr", verdict="accepted")
    yield filmed("gap", "-vf", "setpts='PTS+gt(N,9)*2/TB'", "-fps_mode", "vfr", verdict="accepted")
    yield filmed("late", "-vf", "setpts='PTS+3/TB'", "-fps_mode", "vfr", verdict="either")
    yield filmed("1-fps", verdict="either", fps="1", seconds=3.0)
    yield filmed("240-fps", verdict="accepted", fps="240")
    yield filmed("ntsc", verdict="accepted", fps="30000/1001")
    yield filmed("one-frame", "-frames:v", "1", verdict="refused")
    yield filmed("tiny", verdict="refused", size="16x16")
    yield filmed("thin", verdict="refused", size="640x32")
    yield filmed("wide-pixels", "-vf", "setsar=2", verdict="accepted")
    yield filmed("odd-sides", "-pix_fmt", "yuv444p", verdict="accepted", size="161x91")
    yield filmed("ten-bit", "-pix_fmt", "yuv420p10le", verdict="either")
    yield filmed("fragments", "-movflags", "frag_keyframe+empty_moov", verdict="accepted")
    yield filmed("too-long", verdict="refused", seconds=6.5, fps="10")
