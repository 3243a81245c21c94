"""Films become shards: what is kept, what is dropped and why, and what a killed run leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from model.data.films import PrepareSettings, prepare_film
from model.data.layouts import Source, find_sources
from model.data.phones import UNKNOWN_PHONE
from model.data.preparation import PARTS, REPORT, part_path, prepare_set
from model.data.shards import ClipShards, Track, read_made_from, read_tracks
from model.data.sound import read_sound
from model.errors import InputError
from model.face.alignment import ANCHORS, TEMPLATE
from model.media.audio import log_mel

ROOT = Path(__file__).parents[3]
SHARD = "shard-00000.safetensors"
Prepared = tuple[Path, dict[str, Any]]


def test_every_good_film_becomes_a_track(prepared_set: Prepared) -> None:
    shards = ClipShards(prepared_set[0])
    assert shards.tracks == [
        Track("s1/bbaf2n.mp4#0", "s1", 50, held_out=False),
        Track("s1/bbbm3a.mp4#0", "s1", 50, held_out=True),
        Track("s2/bbaf2n.mp4#0", "s2", 50, held_out=False),
    ]
    assert len(shards) == 3


def test_landmarks_lie_on_the_template_and_lips_move(prepared_set: Prepared) -> None:
    shards = ClipShards(prepared_set[0])
    for index in range(len(shards)):
        landmarks = shards.landmarks(index)
        assert landmarks.shape == (50, 68, 2)
        assert np.abs(landmarks[:, list(ANCHORS)] - TEMPLATE).mean() < 0.03
        assert np.ptp(landmarks[:, 66, 1] - landmarks[:, 62, 1]) > 0.01


def test_the_sound_is_the_films(prepared_set: Prepared, films: Path) -> None:
    shards = ClipShards(prepared_set[0])
    expected = log_mel(read_sound(films / "s1" / "bbaf2n.mp4")[: 50 * 640])
    assert np.abs(shards.log_mel(0) - expected).mean() < 0.01
    assert (shards.phones(0) == UNKNOWN_PHONE).all()


def test_the_report_names_unusable_films(prepared_set: Prepared) -> None:
    output, report = prepared_set
    assert set(report["failed"]) == {"s2/torn.mp4", "s2/mute.mp4"}
    assert "no sound" in report["failed"]["s2/mute.mp4"]
    assert report["films"] == 5
    assert report["kept_s"] == pytest.approx(6.0)
    assert report["shards"] == {
        "tracks": 3, "held_out_tracks": 1, "identities": 2, "seconds": pytest.approx(6.0)
    }  # fmt: skip
    assert json.loads((output / REPORT).read_text()) == report
    assert not (output / PARTS).exists()


def test_what_is_not_good_enough_is_dropped_with_its_reason(
    films: Path, settings: PrepareSettings
) -> None:
    source = Source("film", films / "s1" / "bbaf2n.mp4", "s1", held_out=False)
    for limit, reason in (
        ({"min_s": 2.5}, "too short"),
        ({"min_face_px": 400.0}, "too small"),
        ({"max_turn": 0.0}, "turned away"),
        ({"min_sharpness": 5.0}, "blurred"),
        ({"min_confidence": 1.9}, "sound does not match"),
    ):
        strict = replace(settings, limits=replace(settings.limits, **limit))
        tracks, report = prepare_film(source, strict)
        assert tracks == []
        assert [(drop.reason, drop.frames) for drop in report.dropped] == [(reason, 50)]


def test_late_sound_is_moved_to_the_lips(
    films: Path,
    settings: PrepareSettings,
    prepared_set: Prepared,
    ffmpeg: Callable[..., None],
    tmp_path: Path,
) -> None:
    film = films / "s1" / "bbaf2n.mp4"
    late = tmp_path / "late.mkv"
    delay = ("-af", "adelay=240:all=1", "-c:v", "copy", "-c:a", "pcm_s16le")
    ffmpeg("-i", film, *delay, late)
    tracks, report = prepare_film(Source("late", late, "s1", held_out=False), settings)
    assert report.shifted == {"late#0": pytest.approx(-6, abs=1)}
    shift = 4 * (6 + report.shifted["late#0"])
    moved, own = tracks[0].log_mel, ClipShards(prepared_set[0]).log_mel(0)
    inner = slice(20, 160)
    assert (
        np.corrcoef(np.roll(moved, -shift, axis=0)[inner].ravel(), own[inner].ravel())[0, 1] > 0.9
    )


def test_stretches_are_all_that_is_looked_at(films: Path, settings: PrepareSettings) -> None:
    film = films / "s1" / "bbaf2n.mp4"
    source = Source("film", film, "s1", held_out=False, stretches=((0.4, 1.6),))
    tracks, report = prepare_film(source, settings)
    assert report.frames == 30
    assert [data.track.num_frames for data in tracks] == [30]
    whole = log_mel(read_sound(film)[10 * 640 : 40 * 640])
    assert np.abs(tracks[0].log_mel - whole).mean() < 0.01


def test_long_tracks_are_divided(films: Path, settings: PrepareSettings) -> None:
    source = Source("film", films / "s1" / "bbaf2n.mp4", "s1", held_out=False)
    tracks, _ = prepare_film(source, replace(settings, max_s=0.8))
    assert [data.track.num_frames for data in tracks] == [17, 16, 17]
    assert [data.track.key for data in tracks] == ["film#0", "film#1", "film#2"]


def find_processes(word: str) -> list[int]:
    """Processes whose environment names `word`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if word in process.environ().values():
                found.append(process.pid)
    return found


@pytest.mark.long
def test_a_killed_run_goes_on_and_ends_the_same(
    films: Path, settings: PrepareSettings, prepared_set: Prepared, tmp_path: Path
) -> None:
    sources = find_sources("grid", films)
    for source in sources:
        copy = tmp_path / "films" / source.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.path.read_bytes())
    output = tmp_path / "shards"
    command = [sys.executable, "-m", "talkface", "prepare", "--layout", "grid", "--workers", "2"]
    command += ["--face-px", "64", "--min-seconds", "1"]
    command += [str(tmp_path / "films"), str(output)]
    mark = str(tmp_path)
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(output.glob(f"{PARTS}/*.safetensors")) and time.monotonic() < deadline:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    while find_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert find_processes(mark) == []  # no worker goes on writing
    assert not (output / REPORT).exists()
    finished = [s for s in sources if part_path(output, s).exists()]
    assert finished
    for source in finished:  # nobody looks at a finished film again
        (tmp_path / "films" / source.name).write_bytes(b"no film")
    report = prepare_set(tmp_path / "films", output, settings)
    assert report == prepared_set[1]
    mine, unbroken = (sorted(path.glob("shard-*")) for path in (output, prepared_set[0]))
    assert [path.name for path in mine] == [path.name for path in unbroken] == [SHARD]
    assert read_made_from(mine[0]) == read_made_from(unbroken[0])
    for one, other in zip(read_tracks(mine[0]), read_tracks(unbroken[0]), strict=True):
        assert (one.track, one.frames) == (other.track, other.frames)
        for name in ("landmarks", "log_mel", "phones"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_finished_folders_stay_and_grow(
    films: Path, settings: PrepareSettings, tmp_path: Path
) -> None:
    few = prepare_set(films, tmp_path, settings, limit=3)
    assert few["films"] == 3
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(tmp_path.glob("shard-*"))]
    every = prepare_set(films, tmp_path, settings)
    after = [(path.name, path.stat().st_mtime_ns) for path in sorted(tmp_path.glob("shard-*"))]
    assert every["shards"]["tracks"] == 3
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    keys = [
        data.track.key for path in sorted(tmp_path.glob("shard-*")) for data in read_tracks(path)
    ]
    assert sorted(keys) == [track.key for track in ClipShards(tmp_path).tracks]


def test_other_settings_need_another_folder(
    films: Path, settings: PrepareSettings, prepared_set: Prepared
) -> None:
    with pytest.raises(InputError, match="prepared with"):
        prepare_set(films, prepared_set[0], replace(settings, face_px=32))
