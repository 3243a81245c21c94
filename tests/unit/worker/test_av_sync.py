"""Flash and click stay together, through intake, renderer and encoder, at every rate that films have.

`make av-sync` measures the same at 60 and 300 seconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.av_sync import measure, write_film

CLOSE_S = 0.005


@pytest.mark.parametrize(
    ("suffix", "rate", "delay_s"),
    [
        ("mp4", "24000/1001", 0.13),
        ("mov", "60000/1001", 0.07),
        ("webm", "30000/1001", 0.13),
        ("mkv", "50", 0.2),
        ("ts", "30000/1001", 0.1),
        ("avi", "25", 0.0),
        ("mp4", "120", 0.05),
    ],
)
def test_flash_and_click_stay_together(
    tmp_path: Path, suffix: str, rate: str, delay_s: float
) -> None:
    film = write_film(tmp_path / f"film.{suffix}", rate, [0.3, 2.2], delay_s)

    found = measure(film, tmp_path)

    assert len(found.taken) == len(found.made) == 2
    assert max(map(abs, found.taken)) <= CLOSE_S
    assert max(map(abs, found.made)) <= CLOSE_S


def test_another_rate_that_is_asked_for_keeps_them_within_half_a_frame(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", "30000/1001", [0.3, 2.2], 0.1)

    found = measure(film, tmp_path, fps=25)

    assert max(map(abs, found.made)) <= 0.5 / 25 + CLOSE_S
