"""What a video's tags say of its light and fields, and the filters that make BT.709 (or BT.601) of it.

HLG, PQ            ──▶ linear light, BT.709's primaries, highlights above diffuse white compressed
BT.2020, P3        ──▶ BT.709's primaries
no tags, HD        ──▶ BT.709, as every player takes it; no tags, SD: BT.601
alpha              ──▶ over a background
interlaced fields  ──▶ whole frames (bwdif)
Dolby Vision 5     ──▶ refused: its colours are of Dolby's own kind
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import Description
from worker.contract.intake.limited_child import ffmpeg_reading, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import Sniffed

_FORMAT: Final = re.compile(r", (\w+)(?:\(([^)]*)\))?, \d+x\d+")
_DOLBY_5: Final = re.compile(r"DOVI configuration record:[^\n]*\bprofile: 5\b")
_HDR_TRANSFERS: Final = frozenset({"arib-std-b67", "smpte2084"})
_WIDE_PRIMARIES: Final = frozenset({"bt2020", "smpte431", "smpte432"})
_MATRICES: Final = frozenset(
    {"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco", "bt2020nc", "bt2020c"}
)
_FIELDS: Final = ("top first", "bottom first", "top coded first", "bottom coded first")
_ALPHA: Final = re.compile(r"yuva|rgba|bgra|argb|abgr|gbrap|ya\d|pal8")
_NOT_RGB: Final = re.compile(r"yuv|nv\d|p01\d|y210|gray")
_DIFFUSE_WHITE_NITS: Final = 203
"""ITU-R BT.2408: white paper in HDR; becomes SDR's white."""
_SDR_WHITE_NITS: Final = 100
"""White of SDR's own grading monitor (BT.1886, BT.2035), and of films that converters carried into HDR as they were."""
_KNEE: Final = 0.95
"""Below this part of diffuse white nothing is changed."""
_PEAK_NITS: Final = 1000
_LUMA_WITHIN_SDR: Final = {"arib-std-b67": 627, "smpte2084": 515}
"""10-bit luma of 107 cd/m2 in HLG (on a display of 1000 cd/m2) and in PQ: SDR's white, and what codecs add."""
_LOOKED_AT: Final = 48
"""So many key frames tell how bright a film gets."""
_BRIGHTEST: Final = re.compile(r"signalstats\.YMAX=(\d+)")
_ALPHA_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Colours:
    """What a video's description says.

    Args:
        pix_fmt: ffmpeg's name of its pixels; empty where the description is missing.
        matrix: Of YUV; empty where it is not tagged. So are the others.
        primaries: Of its light.
        transfer: Its curve.
        is_interlaced: Its frames are two fields of different times.
        has_alpha: Parts of it are transparent.
        decoder: The decoder that has to be asked for by name; empty for ffmpeg's own choice.
        is_hd: So large that no tags mean BT.709.
        is_full_range: Black is 0 and white is 255.
        white_nits: Light of white paper in HDR, cd/m2.
    """

    pix_fmt: str = ""
    matrix: str = ""
    primaries: str = ""
    transfer: str = ""
    is_interlaced: bool = False
    has_alpha: bool = False
    decoder: str = ""
    is_hd: bool = False
    is_full_range: bool = False
    white_nits: int = _DIFFUSE_WHITE_NITS

    @property
    def is_hdr(self) -> bool:
        """Whether it has to be tone-mapped."""
        return self.transfer in _HDR_TRANSFERS

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the person who sent it."""
        if self.white_nits == _DIFFUSE_WHITE_NITS:
            return ()
        return (
            f"It is HDR, but nothing in it is brighter than {self.white_nits} cd/m2: that was taken as white.",
        )

    def first_filters(self) -> list[str]:
        """What comes before frames are chosen and scaled."""
        filters = ["bwdif=mode=send_frame:deint=interlaced"] if self.is_interlaced else []
        tags = self._tags()
        return [*filters, "setparams=" + ":".join(tags)] if tags else filters

    def _tags(self) -> list[str]:
        """What the frames are: a decoder does not always say what the container knows."""
        if not _NOT_RGB.match(self.pix_fmt):
            return []
        matrix = self.matrix or ("bt2020nc" if self.is_hdr else "bt709" if self.is_hd else "")
        tags = [f"colorspace={matrix}"] if matrix in _MATRICES else []
        if self.is_hdr or self.primaries in _WIDE_PRIMARIES:
            tags.append(f"color_primaries={self.primaries or 'bt2020'}")
            tags.append(f"color_trc={self.transfer or 'bt709'}")
        return [*tags, "range=pc"] if self.is_full_range else tags

    def last_filters(self, background: str) -> list[str]:
        """What comes after the frames are as small as they get.

        Args:
            background: What is behind transparent parts, as ffmpeg writes colours.
        """
        if self.has_alpha:
            return [
                "format=rgba,split[front][copy];"
                f"[copy]drawbox=color={background}:t=fill:replace=1[back];"
                "[back][front]overlay=format=rgb,format=bgr0"
            ]
        to_bt709 = "zscale=matrix=bt709:transfer=bt709:primaries=bt709:range=limited,format=yuv420p"
        if self.is_hdr:
            return [
                # Approximate gamma would bend each channel of HLG alone, instead of all by their luma.
                f"zscale=transfer=linear:npl={self.white_nits}:agamma=0",
                "format=gbrpf32le",
                "zscale=primaries=bt709",
                f"tonemap=mobius:param={_KNEE}:peak={_PEAK_NITS / self.white_nits:.3f}:desat=0",
                to_bt709,
            ]
        return [to_bt709] if self.primaries in _WIDE_PRIMARIES else []


def read_colours(described: Description, what: str) -> Colours:
    """What a description says of light and fields.

    Args:
        described: The file.
        what: How messages call it.

    Raises:
        IntakeError: undecodable_media, Dolby Vision profile 5.
    """
    if _DOLBY_5.search(described.text):
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"The {what} is Dolby Vision profile 5, whose colours only Dolby's decoders can read; "
            "expected SDR, HLG, HDR10 or another profile. Export it as one of these and resend it.",
        )
    line = described.pictures.line if described.pictures else ""
    found = _FORMAT.search(line)
    if found is None:
        return Colours()
    pix_fmt, words = found[1], (found[2] or "").split(", ")
    matrix = primaries = transfer = ""
    for word in words:
        if word.count("/") == 2:
            matrix, primaries, transfer = (
                "" if one == "unknown" else one for one in word.split("/")
            )
        elif re.match(r"bt|smpte|fcc|ycgco|gbr", word):
            matrix = primaries = transfer = word
    codec = line.split(" ", 1)[0].rstrip(",")
    has_alpha_track = codec in _ALPHA_DECODERS and re.search(
        r"^ +alpha_mode +: 1", described.text, re.MULTILINE | re.IGNORECASE
    )
    width, height = (described.pictures.size if described.pictures else None) or (0, 0)
    return Colours(
        pix_fmt=pix_fmt,
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        is_interlaced=any(word in _FIELDS for word in words),
        has_alpha=bool(has_alpha_track or _ALPHA.match(pix_fmt)),
        decoder=_ALPHA_DECODERS[codec] if has_alpha_track else "",
        is_hd=width >= 1280 or height >= 720,
        is_full_range="pc" in words,
    )


def find_white(
    source: Path, sniffed: Sniffed, colours: Colours, limits: IntakeLimits, what: str
) -> Colours:
    """The colours of a film, with the light that is its white.

    HDR's white paper is at 203 cd/m2 (BT.2408), and highlights are far above it. A film that nowhere
    passes SDR's 100 cd/m2 has none: it is SDR that a converter carried over as it was, and would come
    back at half its light.

    Args:
        source: The film as it came.
        sniffed: What it is.
        colours: From `read_colours`.
        limits: What is tolerated.
        what: How messages call it.

    Raises:
        IntakeError: undecodable_media, the look takes too long.
    """
    if not colours.is_hdr:
        return colours
    # Smaller pictures, so that no single pixel of noise decides.
    look = "scale=w=160:h=-2:flags=area,format=yuv420p10le,signalstats,metadata=print:file=-"
    filters = ",".join([*colours.first_filters(), look])
    end = run_limited(
        [
            *ffmpeg_reading(
                source, sniffed.reader, start=sniffed.start, options=["-skip_frame", "nokey"]
            ),
            *("-map", "0:V:0", "-vf", filters, "-frames:v", str(_LOOKED_AT), "-f", "null", "-"),
        ],
        limits.child(max_file_bytes=2**20),
        what=what,
        reads=[source],
    )
    found = [int(luma) for luma in _BRIGHTEST.findall(end.output.decode("ascii", "replace"))]
    if not found or max(found) > _LUMA_WITHIN_SDR[colours.transfer]:
        return colours
    return replace(colours, white_nits=_SDR_WHITE_NITS)
