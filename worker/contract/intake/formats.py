"""Every format that is taken, and how it is proven: the one table of sniffing, errors and documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.proofs import (
    AdtsFrames,
    AnimatedWebp,
    Boxes,
    Brands,
    Magic,
    MpegAudioFrames,
    Proof,
    TransportPackets,
)

Role = Literal["image", "audio", "video"]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        name: As people call it.
        proofs: Any of them proves it.
        image: Pillow's name of the format, where it is taken as a picture.
        audio: ffmpeg's demuxer, where it is taken as a sound.
        video: ffmpeg's demuxer, where it is taken as a video.
    """

    name: str
    proofs: tuple[Proof, ...]
    image: str = ""
    audio: str = ""
    video: str = ""

    def reader(self, role: Role) -> str:
        """Who decodes it in this role; empty where it is not taken."""
        return {"image": self.image, "audio": self.audio, "video": self.video}[role]

    @property
    def roles(self) -> list[Role]:
        """What it may be sent as."""
        every: tuple[Role, ...] = ("image", "audio", "video")
        return [role for role in every if self.reader(role)]


_HEIC_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_MOV_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

FORMATS: Final = (
    # The first that is proven counts: what is special stands before what is general.
    Format("JPEG", (Magic(b"\xff\xd8\xff"),), image="JPEG"),
    Format("PNG", (Magic(b"\x89PNG\r\n\x1a\n"),), image="PNG"),
    Format("animated WebP", (AnimatedWebp(),), image="WEBP", video="webp_anim"),
    Format("WebP", (Magic(b"RIFF", 8, b"WEBP"),), image="WEBP"),
    Format("AVIF", (Brands((b"avif", b"avis")),), image="AVIF"),
    Format("HEIC", (Brands(_HEIC_BRANDS),), image="HEIF"),
    Format("GIF", (Magic(b"GIF87a"), Magic(b"GIF89a")), video="gif"),
    Format(
        "WAV",
        tuple(Magic(first, 8, b"WAVE") for first in (b"RIFF", b"RIFX", b"RF64", b"BW64")),
        audio="wav",
    ),
    Format("W64", (Magic(bytes.fromhex("726966662E91CF11A5D628DB04C10000")),), audio="w64"),
    Format("AIFF", (Magic(b"FORM", 8, b"AIFF"), Magic(b"FORM", 8, b"AIFC")), audio="aiff"),
    Format("CAF", (Magic(b"caff"),), audio="caf"),
    Format("FLAC", (Magic(b"fLaC"),), audio="flac"),
    Format("Ogg", (Magic(b"OggS"),), audio="ogg"),
    Format("AMR", (Magic(b"#!AMR"),), audio="amr"),
    Format("MP4/MOV/M4A", (Boxes(_MOV_BOXES),), audio="mov", video="mov"),
    Format("WebM/Matroska", (Magic(b"\x1a\x45\xdf\xa3"),), audio="matroska", video="matroska"),
    Format("AVI", (Magic(b"RIFF", 8, b"AVI "),), audio="avi", video="avi"),
    # Those without a name of their own at the start come last.
    Format("MPEG-TS", (TransportPackets(),), audio="mpegts", video="mpegts"),
    Format("AAC", (AdtsFrames(),), audio="aac"),
    Format("MP3", (MpegAudioFrames(),), audio="mp3"),
)

DEMUXERS: Final = sorted({demuxer for one in FORMATS for demuxer in (one.audio, one.video)} - {""})
"""All that ffmpeg may be told to read."""


def types_of(role: Role) -> str:
    """The formats of a role as a sentence has them: `JPEG, PNG or WebP`."""
    *names, last = [one.name for one in FORMATS if one.reader(role)]
    return f"{', '.join(names)} or {last}"


def sniff(head: bytes) -> tuple[Format, int] | None:
    """The format that first bytes prove, and where in them it begins.

    Args:
        head: The beginning of a file, or what follows a tag.

    Returns:
        None where nothing is proven.
    """
    for one in FORMATS:
        for proof in one.proofs:
            start = proof.start(head)
            if start is not None:
                return one, start
    return None


def check_role(found: Format | None, role: Role, what: str) -> Format:
    """Refuse a format that this field does not take.

    Args:
        found: What was proven.
        role: What the file was sent as.
        what: How messages call it.

    Raises:
        IntakeError: unsupported_media_type.
    """
    if found is not None and found.reader(role):
        return found
    got = ""
    if found is not None:
        fields = " or ".join(f"`{one}`" for one in found.roles)
        got = f"it is {found.name}, which is taken as {fields}. "
    raise IntakeError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"The {what} is not {types_of(role)}{'; ' if got else '. '}{got}"
        "Send one of these; the name does not matter.",
    )


def table() -> str:
    """The table as Markdown, for docs/inputs.md."""
    lines = ["| format | sent as | proven by |", "| --- | --- | --- |"]
    for one in FORMATS:
        roles = ", ".join(f"`{role}`" for role in one.roles)
        lines.append(f"| {one.name} | {roles} | {'; '.join(way.words for way in one.proofs)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
