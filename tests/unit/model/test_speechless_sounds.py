from __future__ import annotations

import numpy as np
import pytest

from model.data.speechless_sounds import breath, music, noise_recordings
from model.media.audio import SAMPLE_RATE


def test_noise_has_many_levels() -> None:
    noise = noise_recordings(6)
    assert noise.shape == (6, 300, 80)
    assert np.isfinite(noise.astype(np.float32)).all()
    assert noise.astype(np.float32).mean(axis=(1, 2)).std() > 0.05


@pytest.mark.parametrize("make", [breath, music])
def test_sounds_swell_and_fade(make: object) -> None:
    for seed in range(4):
        sound = make(np.random.default_rng(seed))  # type: ignore[operator]
        assert sound.shape == (3 * SAMPLE_RATE,) and np.isfinite(sound).all()
        level = np.sqrt((sound.reshape(-1, 1600) ** 2).mean(axis=1))
        assert level.max() > 1.5 * level.min()
