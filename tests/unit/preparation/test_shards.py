"""Shards: what is written is read again, and jitter moves pictures and landmarks alike."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.shards import (
    ClipShards,
    Track,
    TrackData,
    encode_picture,
    read_made_from,
    read_tracks,
    stored_picture,
    write_shard,
)
from model.errors import ShapeError, UnsupportedMediaError
from model.face.alignment import jitter_affine
from model.face.average_face import AVERAGE_FACE

FRAME_PX = 300
STORED_PX = 160
NOSE = 30


def make_track(key: str, frames: int = 3, seed: int = 0) -> TrackData:
    """A dark picture with a bright spot at the nose tip, which wanders from frame to frame."""
    rng = np.random.default_rng(seed)
    landmarks = np.repeat(AVERAGE_FACE[None], frames, axis=0).astype(np.float32)
    landmarks += rng.uniform(-0.05, 0.05, (frames, 1, 2)).astype(np.float32)
    # the crop is the middle of the frame: (50, 50) to (250, 250)
    affine = np.array([(0.005, 0, -0.25), (0, 0.005, -0.25)], np.float32)
    pictures = []
    for points in landmarks:
        frame = np.full((FRAME_PX, FRAME_PX, 3), 20, np.uint8)
        x, y = (points[NOSE] * 200 + 50 - 0.5).round().astype(int).tolist()
        cv2.circle(frame, (x, y), 5, (250, 250, 250), -1)
        pictures.append(encode_picture(stored_picture(frame, affine, STORED_PX)))
    mel = rng.normal(0, 1, (80, 4 * frames)).astype(np.float16).T  # as log_mel lies in memory
    phones = rng.integers(0, 40, 4 * frames).astype(np.uint8)
    track = Track(key, key[:2], frames, held_out=seed % 2 == 1)
    return TrackData(track, pictures, landmarks, mel, phones)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tracks = [make_track("b1", 3, 0), make_track("a1", 5, 1), make_track("c1", 2, 2)]
    write_shard(tmp_path / "shard-00000.safetensors", tracks[:2], stored_px=STORED_PX, made_from={})
    write_shard(
        tmp_path / "shard-00001.safetensors", tracks[2:], stored_px=STORED_PX, made_from={"a": 1}
    )
    return tmp_path


def find_spot(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Centre of what is bright, as a share of the picture's sides."""
    rows, columns = np.nonzero(picture[..., 0] > 130)
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / len(picture)


def test_tracks_are_sorted_and_whole(folder: Path) -> None:
    shards = ClipShards(folder)
    assert [track.key for track in shards.tracks] == ["a1", "b1", "c1"]
    assert [track.held_out for track in shards.tracks] == [True, False, False]
    for index, (key, frames, seed) in enumerate((("a1", 5, 1), ("b1", 3, 0), ("c1", 2, 2))):
        made = make_track(key, frames, seed)
        np.testing.assert_array_equal(shards.landmarks(index), made.landmarks)
        np.testing.assert_array_equal(shards.log_mel(index), made.log_mel.astype(np.float32))
        assert shards.log_mel(index).dtype == np.float32
        np.testing.assert_array_equal(shards.phones(index), made.phones)


def test_what_was_written_is_read_again(folder: Path) -> None:
    tracks = read_tracks(folder / "shard-00000.safetensors")
    assert [data.track.key for data in tracks] == ["b1", "a1"]
    assert list(tracks[1].frames) == list(make_track("a1", 5, 1).frames)
    assert read_made_from(folder / "shard-00001.safetensors") == {"a": 1}


@pytest.mark.parametrize("size", [64, 128, 200])
def test_pictures_agree_with_landmarks_under_any_jitter(folder: Path, size: int) -> None:
    shards = ClipShards(folder)
    rng = np.random.default_rng(0)
    for index in range(3):
        count = shards.tracks[index].num_frames
        for jitter in (None, jitter_affine(np.eye(2, 3, dtype=np.float32), rng, 2.0)):
            frames = list(range(count))[::-1]
            pictures, landmarks = shards.crops(index, frames, size=size, jitter=jitter)
            assert pictures.shape == (count, size, size, 3)
            assert pictures.dtype == np.uint8
            for picture, points in zip(pictures, landmarks, strict=True):
                np.testing.assert_allclose(find_spot(picture), points[NOSE], atol=0.008)
            if jitter is None:
                np.testing.assert_array_equal(landmarks, shards.landmarks(index)[::-1])


def test_stored_pictures_reach_beyond_the_crop(folder: Path) -> None:
    frame = np.zeros((FRAME_PX, FRAME_PX, 3), np.uint8)
    frame[30:40] = 255  # above the crop, which begins at row 50; the margin begins at row 25
    affine = np.array([(0.005, 0, -0.25), (0, 0.005, -0.25)], np.float32)
    made = replace(
        make_track("d1", 1),
        frames=[encode_picture(stored_picture(frame, affine, STORED_PX))],
    )
    path = folder / "shard-00002.safetensors"
    write_shard(path, [made], stored_px=STORED_PX, made_from={})
    shards = ClipShards(folder)
    down = np.array([(1, 0, 0), (0, 1, 0.1)], np.float32)
    assert shards.crops(3, [0], size=100)[0].max() < 60
    picture = shards.crops(3, [0], size=100, jitter=down)[0][0]
    assert picture[2].min() > 200
    assert picture[12:].max() < 60


def test_readers_can_be_sent_to_other_processes(folder: Path) -> None:
    shards = ClipShards(folder)
    expected = shards.landmarks(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).landmarks(1), expected)  # noqa: S301


def test_bad_folders_and_frames_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="frames \\[2\\] of track c1; expected 0 to 1"):
        ClipShards(folder).crops(2, [0, 2], size=32)
    with pytest.raises(FileNotFoundError, match="talkface prepare"):
        ClipShards(tmp_path / "nothing")
    (folder / "shard-00007.safetensors").write_bytes(b"torn")
    with pytest.raises(UnsupportedMediaError, match=r"shard-00007\.safetensors is not a whole"):
        ClipShards(folder)


def test_a_track_that_does_not_fit_together_is_refused() -> None:
    whole = make_track("a1")
    with pytest.raises(ShapeError, match="track a1"):
        replace(whole, landmarks=whole.landmarks[:2])


def test_a_shard_may_be_empty(folder: Path) -> None:
    write_shard(folder / "shard-00002.safetensors", [], stored_px=STORED_PX, made_from={})
    assert len(ClipShards(folder)) == 3
