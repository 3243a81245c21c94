"""By how much a sound is early or late against lips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.ndimage import gaussian_filter1d

from model.face.average_face import AVERAGE_FACE
from model.face.landmarks import JAW, LOWER_INNER_LIP, LOWER_OUTER_LIP
from model.media.audio import move_sound
from model.pipelines.audio_offset import match_lips

SECONDS = 4
FALLING = [*JAW, *LOWER_INNER_LIP, *LOWER_OUTER_LIP]


def speaking(seed: int, fps: int, late_s: float = 0.0) -> np.ndarray:
    """A mouth that opens and shuts as `seed` says, `(T, 68, 2)`."""
    times_s = np.arange(-200, 800) / 100
    noise = np.random.default_rng(seed).normal(size=len(times_s))
    opening = 0.12 * gaussian_filter1d(noise, 6.0)
    shown_s = np.arange(SECONDS * fps) / fps - late_s
    faces = np.repeat(AVERAGE_FACE[None], len(shown_s), axis=0).copy()
    faces[:, FALLING, 1] += np.interp(shown_s, times_s, opening)[:, None].astype(np.float32)
    return faces


@pytest.mark.parametrize("late_ms", [-400, -80, 0, 80, 200, 400])
def test_a_sound_is_moved_back_to_the_lips(late_ms: int) -> None:
    seen = speaking(1, 25)

    offset = match_lips(seen, speaking(1, 100, late_ms / 1000), np.ones(len(seen), bool))

    assert offset.is_sure
    assert offset.milliseconds == pytest.approx(-late_ms, abs=20)
    assert f"{offset.milliseconds} ms" in offset.note


def test_frames_without_the_face_do_not_count() -> None:
    seen = speaking(1, 25)
    found = np.ones(len(seen), bool)
    found[:40] = False
    seen[:40] = AVERAGE_FACE

    offset = match_lips(seen, speaking(1, 100, 0.2), found)

    assert offset.is_sure
    assert offset.milliseconds == pytest.approx(-200, abs=20)


@pytest.mark.parametrize("what", ["other words", "silence", "a still face"])
def test_where_nothing_is_sure_the_sound_stays_and_that_is_told(what: str) -> None:
    seen, heard = speaking(1, 25), speaking(2, 100)
    if what == "silence":
        heard = np.repeat(AVERAGE_FACE[None], len(heard), axis=0)
    elif what == "a still face":
        seen = np.repeat(AVERAGE_FACE[None], len(seen), axis=0)

    offset = match_lips(seen, heard, np.ones(len(seen), bool))

    assert not offset.is_sure
    assert offset.milliseconds == 0
    assert "was not moved" in offset.note


@pytest.mark.parametrize("offset_ms", [-250, 0, 120])
def test_a_sound_file_is_moved_by_the_sample(tmp_path: Path, offset_ms: int) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, (48_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "old.flac", samples, 48_000)

    move_sound(tmp_path / "old.flac", tmp_path / "new.flac", offset_ms)

    moved, rate = soundfile.read(tmp_path / "new.flac", dtype="int16")
    shift = offset_ms * 48
    silence = np.zeros((max(shift, 0), 2), np.int16)
    assert rate == 48_000
    np.testing.assert_array_equal(moved, np.concatenate([silence, samples[max(-shift, 0) :]]))
