"""The watermark: found by its key after what videos go through, by no other key, in no other picture."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError, ShapeError
from model.evaluation.watermarks import ATTACKS, attack, payload_of, summary
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from model.watermark.detector import MOST_FALSE_ALARM, Trace, detect, grid_scores
from model.watermark.embedder import WatermarkEmbedder, marked_tile
from model.watermark.pattern import band_bins, keyed_spectrum, shift_factor, surfaces, tile_of
from model.watermark.payload import NUM_SYMBOLS, decode_payload, encode_payload

KEY = bytes(range(32))
PAYLOAD = b"inst\x00\x01jo"
PORTRAIT = Path(__file__).parents[3] / "examples" / "portrait.jpg"

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def portrait() -> Frame:
    return np.array(Image.open(PORTRAIT).convert("RGB").resize((640, 640)))


@pytest.fixture(scope="module")
def marked(portrait: Frame) -> Frame:
    return _marked(portrait)


@pytest.fixture(scope="module")
def film(marked: Frame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marked") / "film.mp4"
    with VideoWriter(path, width=640, height=640) as writer:
        for _ in range(5):
            writer.write(marked)
    return path


def _marked(frame: Frame) -> Frame:
    copy = frame.copy()
    height, width = frame.shape[:2]
    WatermarkEmbedder(KEY, PAYLOAD, width=width, height=height).apply(copy)
    return copy


def test_mark_is_faint_and_leaves_the_colour_alone(portrait: Frame, marked: Frame) -> None:
    change = marked.astype(int) - portrait
    unclipped = ((portrait > 12) & (portrait < 243)).all(axis=2)

    assert cv2.PSNR(portrait, marked) > 43
    assert (np.ptp(change[unclipped], axis=1) == 0).all()
    assert np.abs(change).max() > 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_frames_of_any_brightness_keep_the_psnr(level: int) -> None:
    frame = np.full((96, 160, 3), level, np.uint8)

    assert cv2.PSNR(frame, _marked(frame)) > 43


def test_busiest_frames_keep_the_psnr() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)

    assert cv2.PSNR(frame, _marked(frame)) > 43


@pytest.mark.long
@pytest.mark.parametrize("name", list(ATTACKS))
def test_mark_is_found_and_read_after_an_attack(name: str, film: Path, tmp_path: Path) -> None:
    attacked = tmp_path / "attacked.mp4"
    attack(film, attacked, name)

    detection = detect(Trace.of(read_frames(attacked, fps=None)), KEY)

    assert detection.found
    assert detection.payload == PAYLOAD
    assert detection.false_alarm < 1e-9


def test_scale_of_a_crop_is_told(marked: Frame) -> None:
    height, width = 576, 576  # 0.9 of each side

    detection = detect(Trace.of([marked[20 : 20 + height, 50 : 50 + width]]), KEY)

    assert detection.scale == pytest.approx(0.9, abs=0.005)


def test_marks_of_two_sizes_are_the_same_picture_scaled(portrait: Frame, marked: Frame) -> None:
    small = cv2.resize(marked, (320, 320), interpolation=cv2.INTER_AREA)

    assert detect(Trace.of([small]), KEY).scale == pytest.approx(1.0, abs=0.005)


def test_unmarked_picture_and_wrong_key_are_not_found(portrait: Frame, marked: Frame) -> None:
    for picture, key in ((portrait, KEY), (marked, KEY[::-1])):
        detection = detect(Trace.of([picture]), key)

        assert not detection.found
        assert detection.payload is None
        assert detection.false_alarm > MOST_FALSE_ALARM


def test_wrong_keys_score_as_the_bound_allows(marked: Frame) -> None:
    trace = Trace.of([marked])
    keys = [number.to_bytes(16, "big") for number in range(400)]
    spectra = np.stack([keyed_spectrum(key, 0) for key in keys])
    at_origin = (trace.phases[0] * np.conj(spectra)).real.sum(axis=1)
    at_origin *= math.sqrt(2 / trace.phases.shape[-1])

    assert np.std(at_origin) == pytest.approx(1.0, abs=0.1)
    assert np.mean(at_origin > 2) <= math.exp(-2)
    assert grid_scores(trace, keys[:40]).max() < 6.5  # 7.5 would be found


def test_unchanging_pixels_have_no_mark() -> None:
    detection = detect(Trace.of([np.full((360, 640, 3), 90, np.uint8)]), KEY)

    assert not detection.found


def test_patterns_stay_what_they_are() -> None:
    """Marks in videos that are out must be found by every later version."""
    first = np.angle(keyed_spectrum(KEY, 0)[:3]) / (2 * np.pi) % 1

    assert len(band_bins()[0]) == 1783
    assert first == pytest.approx([0.0322667, 0.7515219, 0.4538645], abs=1e-6)
    assert encode_payload(bytes(8)) == bytes(12)


def test_shifted_spectrum_is_the_shifted_tile() -> None:
    spectrum = keyed_spectrum(KEY, 3)

    shifted = tile_of(spectrum * shift_factor(5, 17))

    assert shifted == pytest.approx(np.roll(tile_of(spectrum), (5, 17), axis=(0, 1)), abs=1e-3)
    correlation = surfaces(spectrum * shift_factor(5, 17) * np.conj(spectrum), 256)
    assert np.unravel_index(correlation.argmax(), correlation.shape) == (5, 17)


def test_payload_changes_the_pattern_but_not_its_grid() -> None:
    one, other = (marked_tile(KEY, payload) for payload in (bytes(8), b"12345678"))

    assert 0.3 < np.mean(one * other) < 0.6  # the grid's share of the energy
    assert one.std() == pytest.approx(1.0)


def read_with(wrong: tuple[int, ...]) -> tuple[bytes, bytes] | None:
    """What is read where some symbols are hidden by noise."""
    scores = np.random.default_rng(1).normal(size=(NUM_SYMBOLS, 256)).astype(np.float32)
    for number, symbol in enumerate(encode_payload(PAYLOAD)):
        scores[number, symbol] = 1.0 if number in wrong else 9.0

    return decode_payload(scores)


@pytest.mark.parametrize("wrong", [(), (3,), (3, 7), (0, 11)], ids=str)
def test_misread_symbols_are_mended(wrong: tuple[int, ...]) -> None:
    assert read_with(wrong) == (PAYLOAD, encode_payload(PAYLOAD))


@pytest.mark.parametrize("wrong", [(0, 5, 8), (0, 5, 8, 11), tuple(range(12))], ids=str)
def test_a_word_with_more_misread_symbols_is_not_told(wrong: tuple[int, ...]) -> None:
    """With four symbols given up any eight make a word: the wrong one as well, if one of the eight is wrong."""
    assert read_with(wrong) is None


def test_wrong_arguments_are_told(portrait: Frame) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        WatermarkEmbedder(b"short", PAYLOAD, width=64, height=64)
    with pytest.raises(ValueError, match="8 bytes, got 3"):
        WatermarkEmbedder(KEY, b"abc", width=64, height=64)
    with pytest.raises(ShapeError, match="at least 64 px"):
        WatermarkEmbedder(KEY, PAYLOAD, width=62, height=640)
    with pytest.raises(ShapeError, match="expected a uint8 frame"):
        WatermarkEmbedder(KEY, PAYLOAD, width=64, height=64).apply(portrait)
    with pytest.raises(InputError, match="without frames"):
        Trace.of([])
    with pytest.raises(InputError, match="one size"):
        Trace.of([portrait, portrait[:320]])


def test_tables_count_what_was_found() -> None:
    row = {
        "kind": "attack",
        "read": True,
        "misread": False,
        "score": 12.0,
        "psnr_db": 44.0,
        "least_psnr_db": 43.9,
        "attack": "crop",
    }
    rows = [
        {**row, "film": "a", "found": True, "false_alarm": 1e-10},
        {**row, "film": "b", "found": False, "read": False, "false_alarm": 1e-3},
        {"kind": "real", "film": "c", "found": False, "score": 5.0},
    ]

    text = summary(rows)

    assert "| crop | 2 | 50.0% | 50.0% | 0.0% |" in text
    assert "0 hits in 1, highest score 5.00" in text
    assert "| crop | 100.0% | 50.0% | 50.0% | 50.0% | 0.0% |" in text
    assert len(payload_of("a")) == 8
