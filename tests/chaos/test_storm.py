"""A quarter of a minute of random kills; `make chaos` does five minutes of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.chaos.storm import run


def test_no_accepted_job_is_lost_or_ends_twice() -> None:
    # Not below tmp_path: the name of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tf-chaos-") as folder:
        report = run(15.0, seed=1, pause_s=(0.7, 1.8), folder=Path(folder))

    told = "\n".join(report.lines())
    print(told)
    assert report.accepted > 0, told
    assert sum(report.kills.values()) > 5, told
    assert not report.lost, told
    assert not report.doubled, told
    assert not report.untidy, told
