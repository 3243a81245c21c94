from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.head_tracks import ADDRESSES, HeadTrack, face_path, read_addresses, read_films
from model.evaluation.metrics.head_motion import MeasuredHead, blink_figures, path_figures
from model.face.average_face import AVERAGE_FACE
from model.motion.head_path import BANDS_HZ
from model.motion_training import draw_batches, draw_window, fit_equaliser, flow_loss, train
from model.networks.head_flow import HeadFlow

FPS = 25.0
TIMES = np.arange(3000) / FPS


def swaying(hz: float, way: float) -> np.ndarray:
    path = np.zeros((len(TIMES), 7))
    path[:, 0] = way * np.sqrt(2) * np.sin(2 * np.pi * hz * TIMES)
    path[:, 3] = 2.0 * np.sin(2 * np.pi * 0.1 * TIMES)
    return path


def test_figures_of_a_head_that_sways() -> None:
    head = MeasuredHead(swaying(0.5, 0.1), np.ones(len(TIMES)))
    figures = path_figures([head], FPS)
    assert figures["rms"] == pytest.approx(0.1, rel=0.01)
    assert figures["roll_sd"] == pytest.approx(np.sqrt(2), rel=0.02)
    assert figures["power_0.4"] == pytest.approx(0.01, rel=0.2)  # a window leaks a little
    assert max(figures["power_0.8"], figures["power_1.6"]) < 1e-4
    scaled = path_figures([head], FPS, rms=0.2)
    assert scaled["speed_p95"] == pytest.approx(2 * figures["speed_p95"])
    assert scaled["power_0.4"] == pytest.approx(4 * figures["power_0.4"])


def test_speech_over_pauses() -> None:
    speaking = (TIMES % 8 < 4).astype(np.float64)
    path = np.zeros((len(TIMES), 7))
    path[:, 1] = np.cumsum((1 + speaking) * np.sign(np.sin(2 * np.pi * TIMES))) / 100
    figures = path_figures([MeasuredHead(path, speaking)], FPS)
    assert figures["speech_over_pauses"] == pytest.approx(4.0, rel=0.15)


def test_blinks_are_counted_and_measured() -> None:
    openings = np.ones(1500)
    for begin in (100, 300, 700):
        openings[begin : begin + 4] = 0.1
    figures = blink_figures([MeasuredHead(np.zeros((1500, 7)), np.ones(1500), openings)], FPS)
    assert figures == {"blinks_per_minute": 3.0, "blink_s": pytest.approx(0.16)}
    assert blink_figures([MeasuredHead(np.zeros((9, 7)), np.ones(9))], FPS) == {}


def test_a_face_s_path_is_what_was_done_to_it() -> None:
    faces = []
    for angle, shift in ((0.0, 0.0), (0.0, 0.0), (5.0, 20.0)):
        turn = np.radians(angle)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        faces.append((AVERAGE_FACE * 300 - 150) @ matrix.T + 400 + (shift, 0))
    path = face_path(np.stack(faces).astype(np.float64))
    assert path[2, 3] - path[0, 3] == pytest.approx(5.0, abs=0.01)
    assert np.abs(path[2, [2, 4, 5, 6]] - path[0, [2, 4, 5, 6]]).max() < 0.02
    assert np.abs(path[1] - path[0]).max() == 0


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """A table like that of the measured heads."""
    random = np.random.default_rng(0)
    table = {}
    for name in ADDRESSES[:2]:
        moved = np.cumsum(random.normal(size=(600, 6)), axis=0).astype(np.float16) * 0.02
        table |= {
            f"{name}_seg": np.repeat([0, -1, 1], 200).astype(np.int16),
            f"{name}_motion": moved.astype(np.float16),
            f"{name}_brow": random.normal(0.3, 0.01, 600).astype(np.float16),
            f"{name}_mouth": np.abs(random.normal(0.1, 0.05, (600, 2))).astype(np.float16),
        }
    np.savez(tmp_path / "tracks.npz", **table)
    return tmp_path / "tracks.npz"


def test_tracks_are_read_by_stretch_and_films_by_clip(tracks: Path, tmp_path: Path) -> None:
    addresses = read_addresses(tracks, ADDRESSES[:2])
    assert [track.speaker for track in addresses] == ["v01", "v01", "v02", "v02"]
    for track in addresses:
        assert track.path.shape == (100, 7) and track.rhythm.shape == (100, 2)
    faces = np.tile(AVERAGE_FACE * 100, (3, 75, 1, 1))
    np.savez(
        tmp_path / "films.npz",
        names=np.array(["a", "b", "c"]),
        landmarks=faces,
        log_mel=np.random.default_rng(0).normal(size=(3, 300, 80)).astype(np.float16),
        held_out=np.array([False, True, False]),
    )
    films = read_films(tmp_path / "films.npz")
    assert [film.speaker for film in films] == ["a", "c"]
    assert films[0].path.shape == (38, 7) and not np.abs(films[0].path).max() > 1e-6


def test_the_flow_learns_and_the_equaliser_matches_spectra(tracks: Path) -> None:
    random = np.random.default_rng(0)
    path = np.cumsum(random.normal(size=(300, 7)), axis=0) * 0.01
    track = HeadTrack("x", path - path.mean(axis=0), np.ones((300, 2)))
    pushes, rhythm = draw_window(track, 96, random)
    assert pushes.shape == (96, 7) and rhythm.shape == (96, 2)
    batches = draw_batches([track], read_addresses(tracks, ADDRESSES[:1]), np.ones(7), 2, random)
    flow = HeadFlow(width=16, layers=1, heads=2)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    assert float(flow_loss(flow, next(batches)).detach()) > 0
    train(flow, batches, minutes=0.01, learning_rate=1e-3)
    after = flow.state_dict()
    assert any(not value.equal(before[name]) for name, value in after.items())
    fit_equaliser(flow, [track], seeds=1)
    assert flow.band_gain.shape == (7, len(BANDS_HZ)) and flow.band_gain.min() > 0
