"""Twelve seconds of two releases over one Redis; `make chaos-versions` does five minutes of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.versions import run
from tests.previous_release import NoHistoryError


@pytest.mark.long
def test_two_releases_at_once_lose_double_and_misread_nothing() -> None:
    # Not below tmp_path: the name of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-chaos-") as folder:
        try:
            report = run(12.0, seed=1, pause_s=(0.7, 1.5), folder=Path(folder))
        except NoHistoryError as error:
            pytest.skip(str(error))

    told = "\n".join(report.lines())
    print(told)
    assert report.accepted > 0, told
    assert sum(report.kills.values()) > 5, told
    assert report.posts["next with novelty"] > 0, told
    assert report.is_clean, told
