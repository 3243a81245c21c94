"""Films that were encoded apart are joined as they are."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from model.errors import EncodingError
from model.media.ffmpeg import ffmpeg_path
from model.media.frame_marks import FrameMark
from model.media.joining import join_videos
from model.media.probe import probe
from model.media.video_reader import read_frames
from model.media.video_writer import VideoWriter
from tests.unit.model.test_video import moving_picture, write_tone

LENGTHS = (16, 16, 16, 11)


def write_part(
    path: Path,
    start: int,
    stop: int,
    fps: float,
    marks: tuple[FrameMark, ...] = (),
    sound: Path | None = None,
) -> Path:
    with VideoWriter(
        path,
        width=96,
        height=64,
        fps=fps,
        sound=sound,
        marks=marks,
        first_frame=start,
        segment_frames=LENGTHS[0],
    ) as writer:
        for index in range(start, stop):
            writer.write(moving_picture(index))
    return path


def write_parts(folder: Path, fps: float) -> list[Path]:
    borders = np.cumsum((0, *LENGTHS)).tolist()
    pairs = enumerate(itertools.pairwise(borders))
    return [write_part(folder / f"part-{n}.mp4", *pair, fps) for n, pair in pairs]


def times_s(path: Path) -> list[float]:
    """When each frame is shown."""
    told = subprocess.run(
        [ffmpeg_path(), "-i", str(path), "-vf", "showinfo", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(found) for found in re.findall(r"pts_time:([\d.]+)", told.stderr)]


@pytest.mark.parametrize("fps", [25.0, 29.97, 12.5])
def test_every_frame_is_there_at_its_time_and_as_it_was_encoded(tmp_path: Path, fps: float) -> None:
    parts, joined = write_parts(tmp_path, fps), tmp_path / "joined.mp4"

    join_videos(parts, LENGTHS, joined, fps=fps)

    apart = np.concatenate([np.stack(list(read_frames(part, fps=fps))) for part in parts])
    together = np.stack(list(read_frames(joined, fps=fps)))
    assert np.array_equal(together, apart)
    expected = np.arange(sum(LENGTHS)) / fps
    assert np.allclose(times_s(joined), expected, atol=1e-3)


def test_the_sound_is_muxed_once_over_all(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=3.0, channels=2)
    joined = tmp_path / "joined.mp4"

    tags = {"title": "Talking face"}
    join_videos(write_parts(tmp_path, 25.0), LENGTHS, joined, fps=25.0, sound=sound, tags=tags)

    info = probe(joined)
    assert (info.num_frames, info.audio_channels) == (sum(LENGTHS), 2)
    assert info.duration_s == pytest.approx(sum(LENGTHS) / 25.0, abs=0.03)
    assert b"Talking face" in joined.read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_mark_knows_the_number_of_its_frame_in_the_whole(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting:
        def apply(self, frame: np.ndarray, index: int) -> None:
            seen.append(index)

    write_part(tmp_path / "part.mp4", 40, 44, 25.0, (Counting(),))

    assert seen == [40, 41, 42, 43]


def test_parts_by_several_and_the_whole_by_one_are_the_same_file(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", seconds=3.0)
    whole = write_part(tmp_path / "whole.mp4", 0, sum(LENGTHS), 25.0, sound=sound)

    join_videos(write_parts(tmp_path, 25.0), LENGTHS, tmp_path / "j.mp4", fps=25.0, sound=sound)

    assert (tmp_path / "j.mp4").read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_part_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match="could not write"):
        join_videos([tmp_path / "none.mp4"], [4], tmp_path / "joined.mp4", fps=25.0)
    assert list(tmp_path.iterdir()) == []
