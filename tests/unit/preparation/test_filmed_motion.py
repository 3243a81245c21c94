"""Whose amplitude is whose."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.filmed_motion import amplitude, population_gains
from model.data.split import CHOOSING_SPEAKERS, speakers_of, trained_on
from model.face.landmarks import CONTENT, MOUTH_CORNERS, NUM_LANDMARKS, POSE


def faces_opening_by(share: float) -> np.ndarray:
    """Faces `(2, 50, 68, 2)` whose lips open by up to `share` of the mouth's width."""
    faces = np.zeros((2, 50, NUM_LANDMARKS, 2), np.float32)
    faces[..., MOUTH_CORNERS[1], 0] = 0.2
    faces[..., [67, 66, 65], 1] = 0.2 * share * np.linspace(0, 1, 50)[None, :, None]
    return faces


def test_amplitude_is_nearly_the_widest_opening() -> None:
    faces = faces_opening_by(0.3)
    found = amplitude(faces[:, 0, list(POSE)], faces[:, :, list(CONTENT)])
    assert found == pytest.approx(0.95 * 0.3, abs=0.01)


def test_gains_bring_everybody_to_the_mean() -> None:
    gains = population_gains({"small": 0.2, "wide": 0.4}, {"small": 999, "wide": 999})
    assert gains["small"] * 0.2 == pytest.approx(0.3, rel=0.01)
    assert gains["wide"] * 0.4 == pytest.approx(0.3, rel=0.01)


def test_one_clip_is_believed_half() -> None:
    gains = population_gains({"often": 0.2, "once": 0.4}, {"often": 999, "once": 1})
    assert gains["once"] == pytest.approx((0.3 / 0.4) ** 0.5)


def test_held_out_and_choosing_speakers_are_not_trained_on() -> None:
    films = {
        "names": np.array(["a.mkv", "b.mkv", "c.mkv"]),
        "speakers": np.array(["s4", CHOOSING_SPEAKERS[0], "s16"]),
        "held_out": np.array([False, False, True]),
    }
    assert trained_on("speakers", films).tolist() == [True, False, False]
    assert speakers_of("speakers", films).tolist() == ["s4", CHOOSING_SPEAKERS[0], "s16"]


def test_the_first_speakers_sentences_are_held_out_by_name() -> None:
    films = {"names": np.array(["bbaf2n.mkv", "bbbm3a.mkv"])}
    assert trained_on("grid", films).tolist() == [True, False]
    assert speakers_of("grid", films).tolist() == ["grid", "grid"]
