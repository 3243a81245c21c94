"""The colours of a video: HDR by the formulas of BT.2100, missing tags, full range, alpha, fields."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from model.media.video_reader import read_frames
from tests.films import H264, ffmpeg, film
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.probes import probe_video
from worker.contract.intake.videos import accept_video

Picture = NDArray[np.float64]
LIMITS = IntakeLimits()
CELL = 40
# Rec. ITU-R BT.2087: linear BT.709 to linear BT.2020
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
WHITE_NITS = 203.0


def chart() -> Picture:
    """Flat cells `(5 * 40, 8 * 40, 3)` of SDR levels: greys, skins and colours."""
    greys = [[level] * 3 for level in (16, 40, 80, 120, 160, 200, 225, 240)]
    skins = [[241, 203, 178], [198, 134, 103], [141, 85, 54], [90, 53, 38], [233, 172, 152]]
    skins += [[60, 40, 35], [178, 74, 82], [214, 120, 118]]
    colours = [[200, 60, 50], [60, 180, 70], [50, 70, 190], [220, 210, 90]]
    colours += [[40, 160, 170], [170, 60, 160], [110, 130, 60], [90, 100, 130]]
    cells = np.array([greys, skins, colours, greys[::-1], skins[::-1]], np.float64)
    return np.kron(cells, np.ones((CELL, CELL, 1)))


def cells(frame: NDArray[np.uint8]) -> Picture:
    """The mean of the middle of each cell."""
    rows, columns = frame.shape[0] // CELL, frame.shape[1] // CELL
    split = frame.reshape(rows, CELL, columns, CELL, 3).astype(float)
    return np.asarray(split[:, 12:-12, :, 12:-12].mean(axis=(1, 3)))


def nits(levels: Picture, white: float = WHITE_NITS) -> Picture:
    """Light of a display (BT.1886) that shows SDR with its white at 203 cd/m2 (BT.2408), in BT.2020."""
    return np.asarray((levels / 255) ** 2.4 @ TO_2020.T * white)


def pq(light: Picture) -> Picture:
    """BT.2100 table 4: inverse EOTF."""
    y = (light / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg(light: Picture) -> Picture:
    """BT.2100 table 5: inverse OOTF of a display of 1000 cd/m2, then the OETF."""
    display = light / 1000
    luma = display @ np.array([0.2627, 0.6780, 0.0593])
    scene = display * np.maximum(luma, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    low = np.sqrt(3 * scene)
    high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, low, high)


def write_film(path: Path, signal: Picture, *arguments: str) -> Path:
    """Half a second of one picture, given as RGB signal 0 to 1."""
    height, width = signal.shape[:2]
    raw = (np.clip(signal, 0, 1) * 65_535 + 0.5).astype("<u2").tobytes() * 12
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{width}x{height}", "-r", "25"),
            *("-i", "pipe:0", *arguments, str(path)),
        ],
        input=raw,
        check=True,
    )
    return path


def taken(upload: Path, limits: IntakeLimits = LIMITS) -> list[NDArray[np.uint8]]:
    """The frames that the model sees."""
    accept_video(upload, upload.with_name("input.mkv"), limits, 25.0)
    return list(read_frames(upload.with_name("input.mkv"), fps=None))


def hdr(transfer: str, *codec: str) -> tuple[str, ...]:
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc:range=tv"
    return ("-vf", f"scale=out_color_matrix=bt2020:out_range=tv,format=yuv444p10le,{tags}", *codec)


X265 = ("-c:v", "libx265", "-x265-params", "log-level=error:crf=4", "-tag:v", "hvc1")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "4", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8")


@pytest.mark.parametrize(
    ("encode", "transfer"), [(hlg, "arib-std-b67"), (pq, "smpte2084")], ids=["hlg", "pq"]
)
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", X265), ("webm", VP9)])
def test_hdr_comes_back_as_the_sdr_that_it_was(
    tmp_path: Path, encode: object, transfer: str, suffix: str, codec: tuple[str, ...]
) -> None:
    assert callable(encode)
    signal = encode(nits(chart()))
    upload = write_film(tmp_path / f"u.{suffix}", signal, *hdr(transfer, *codec))

    frame = taken(upload)[3]

    wrong = np.abs(cells(frame) - chart()[CELL // 2 :: CELL, CELL // 2 :: CELL])
    assert wrong.max() <= 6
    assert wrong.mean() < 2


@pytest.mark.parametrize(
    ("encode", "transfer"), [(hlg, "arib-std-b67"), (pq, "smpte2084")], ids=["hlg", "pq"]
)
def test_sdr_that_was_carried_into_hdr_as_it_was_has_its_own_white(
    tmp_path: Path, encode: object, transfer: str
) -> None:
    assert callable(encode)
    levels = np.kron(
        np.array([[[255] * 3, [235] * 3, [128] * 3, [198, 134, 103], [60, 40, 35]]], np.float64),
        np.ones((2 * CELL, CELL, 1)),
    )
    upload = write_film(tmp_path / "u.mp4", encode(nits(levels, 100.0)), *hdr(transfer, *X265))

    info = accept_video(upload, tmp_path / "input.mkv", LIMITS)

    assert any("100 cd/m2" in note for note in info.notes)
    frame = next(iter(read_frames(tmp_path / "input.mkv", fps=None)))
    wrong = np.abs(cells(frame) - cells(np.uint8(levels)))
    # White itself lies in the soft end of the scale.
    assert wrong[:, 1:].max() <= 6 and wrong[:, 0].max() <= 12


def test_one_highlight_keeps_hdrs_white(tmp_path: Path) -> None:
    levels = np.full((2 * CELL, 6 * CELL, 3), 90.0)
    light = nits(levels)
    light[:20, :20] = 400.0
    upload = write_film(tmp_path / "u.mp4", hlg(light), *hdr("arib-std-b67", *X265))

    info = accept_video(upload, tmp_path / "input.mkv", LIMITS)

    frame = next(iter(read_frames(tmp_path / "input.mkv", fps=None)))
    assert info.notes == () and np.abs(cells(frame)[1] - 90).max() <= 6


def test_highlights_above_white_keep_their_order(tmp_path: Path) -> None:
    light = np.kron(
        np.linspace(150, 1000, 8)[None, :, None] * np.ones(3), np.ones((2 * CELL, CELL, 1))
    )
    upload = write_film(tmp_path / "u.mp4", pq(light), *hdr("smpte2084", *X265))

    levels = cells(taken(upload)[3])[0, :, 1]

    assert (np.diff(levels) > -0.5).all()
    assert levels[0] < 235 < 248 < levels[2]


@pytest.mark.parametrize(
    ("size", "matrix"), [((320, 200), "bt601"), ((1280, 720), "bt709"), ((1280, 534), "bt709")]
)
def test_missing_tags_mean_what_players_take_them_for(
    tmp_path: Path, size: tuple[int, int], matrix: str
) -> None:
    signal = np.resize(chart(), (200, 320, 3)) / 255
    whole = np.zeros((size[1], size[0], 3))
    whole[:200, :320] = signal
    film_ = write_film(
        tmp_path / "u.mp4",
        whole,
        *("-vf", f"scale=out_color_matrix={matrix}:out_range=tv:flags=accurate_rnd,format=yuv444p"),
        *("-c:v", "libx264", "-crf", "2", "-bsf:v", "h264_metadata=colour_primaries=2"),
    )
    # No box and no header says anything of colours.
    ffmpeg(
        *("-i", film_, "-c", "copy", "-movflags", "-write_colr", "-bsf:v"),
        "h264_metadata=colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2",
        tmp_path / "untagged.mkv",
    )

    frame = taken(tmp_path / "untagged.mkv")[3][:200, :320]

    assert np.abs(cells(frame) - cells(np.uint8(signal * 255 + 0.5))).max() <= 2


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_full_range_keeps_black_and_white(tmp_path: Path, pixels: str, codec: str) -> None:
    upload = write_film(
        tmp_path / "u.mkv",
        chart() / 255,
        *("-vf", f"scale=out_color_matrix=bt601:out_range=pc:flags=accurate_rnd,format={pixels}"),
        *("-color_range", "pc", "-colorspace", "smpte170m", "-c:v", codec),
        *(("-q:v", "1") if codec == "mjpeg" else ("-crf", "2")),
    )

    wrong = np.abs(cells(taken(upload)[3]) - chart()[CELL // 2 :: CELL, CELL // 2 :: CELL])

    assert wrong.max() <= 2.5
    assert wrong.mean() < 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.webm", ("-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9", "-crf", "4", "-b:v", "0")),
        ("v8.webm", ("-pix_fmt", "yuva420p", "-c:v", "libvpx", "-auto-alt-ref", "0", "-b:v", "4M")),
        ("p.mov", ("-pix_fmt", "yuva444p10le", "-c:v", "prores_ks", "-profile:v", "4444")),
        ("a.webp", ("-pix_fmt", "bgra", "-c:v", "libwebp_anim", "-lossless", "1")),
        ("q.mov", ("-pix_fmt", "argb", "-c:v", "qtrle")),
        ("a.gif", ("-vf", "split[a][b];[a]palettegen=reserve_transparent=1[p];[b][p]paletteuse")),
    ],
)
@pytest.mark.parametrize("background", ["#ffffff", "#2040c0"])
def test_transparent_parts_show_the_background(
    tmp_path: Path, name: str, arguments: tuple[str, ...], background: str
) -> None:
    # Red on the left; on the right nothing, over green that must not be seen.
    pattern = "color=red:size=160x96:rate=25:duration=0.5,format=rgba,"
    pattern += "geq=r='255*lt(X,80)':g='255*gte(X,80)':b='9*N*gt(Y,80)':a='255*lt(X,80)'"
    ffmpeg("-f", "lavfi", "-i", pattern, *arguments, tmp_path / name)

    frame = taken(tmp_path / name, IntakeLimits(background=background))[3]

    behind = tuple(bytes.fromhex(background[1:]))
    assert frame[48, 130] == pytest.approx(behind, abs=4)
    assert frame[48, 30] == pytest.approx((255, 0, 0), abs=5)


def combing(frame: NDArray[np.uint8]) -> float:
    """How much more neighbouring rows differ than rows of one field."""
    grey = frame.astype(float).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() / np.abs(grey[2:] - grey[:-2]).mean())


MOVING = "color=black:size=320x240:rate=50:duration=1,format=yuv420p,"
MOVING += "geq=lum='16+200*between(mod(X-8*N\\,320)\\,0\\,80)':cb=128:cr=128"


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", ("-c:v", "libx264", "-flags", "+ildct+ilme")),
        ("a.ts", ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2")),
    ],
)
def test_fields_become_whole_frames(
    tmp_path: Path, order: str, name: str, codec: tuple[str, ...]
) -> None:
    mode = "interleave_top" if order == "top" else "interleave_bottom"
    fields = f"{MOVING},tinterlace={mode},setfield={'tff' if order == 'top' else 'bff'}"
    first = ("-x264-params", f"{'tff' if order == 'top' else 'bff'}=1") if "264" in codec[1] else ()
    ffmpeg("-f", "lavfi", "-i", fields, *codec, *first, tmp_path / name)
    combed = list(read_frames(tmp_path / name, fps=None))

    frames = taken(tmp_path / name)

    # A bar's edges are 8 px apart in the two fields; whole frames have straight edges.
    assert np.abs(np.diff(combed[10].astype(float), axis=0)).mean() > 5
    assert np.abs(np.diff(frames[10].astype(float), axis=0)).mean() < 2.5
    assert len(frames) == 25


def test_whole_frames_are_left_alone_to_the_bit(tmp_path: Path) -> None:
    upload = film(tmp_path / "u.mp4", *H264)

    frames = taken(upload)

    for got, right in zip(frames, read_frames(upload, fps=None), strict=True):
        np.testing.assert_array_equal(got, right)


# --- Dolby Vision -------------------------------------------------------------------------------


def with_dolby_vision(film_: bytes, profile: int) -> bytes:
    """The film with a configuration of Dolby Vision in its sample entry; its `moov` comes last."""
    flags = profile << 9 | 6 << 3 | 0b101  # level 6, an RPU, no second layer, a base layer
    record = struct.pack(">BBHI", 1, 0, flags, 0) + bytes(16)
    box = struct.pack(">I", 8 + len(record)) + (b"dvcC" if profile < 8 else b"dvvC") + record
    changed = bytearray(film_)
    at = film_.index(b"hvcC") - 4
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        place = film_.index(name, film_.index(b"moov")) - 4
        size = struct.unpack(">I", film_[place : place + 4])[0]
        changed[place : place + 4] = struct.pack(">I", size + len(box))
    return bytes(changed[:at]) + box + bytes(changed[at:])


def test_dolby_vision_profile_5_is_refused_with_a_sentence(tmp_path: Path) -> None:
    upload = write_film(tmp_path / "u.mp4", pq(nits(chart())), *hdr("smpte2084", *X265))
    plain = upload.read_bytes()

    upload.write_bytes(with_dolby_vision(plain, 5))
    for call in (lambda: taken(upload), lambda: probe_video(upload, LIMITS, "video")):
        with pytest.raises(IntakeError) as caught:
            call()
        assert caught.value.code is ErrorCode.UNDECODABLE_MEDIA
        assert "Dolby Vision profile 5" in caught.value.detail

    # Profile 8 is PQ or HLG for everybody else.
    upload.write_bytes(with_dolby_vision(plain, 8))
    wrong = np.abs(cells(taken(upload)[3]) - chart()[CELL // 2 :: CELL, CELL // 2 :: CELL])
    assert wrong.max() <= 6
