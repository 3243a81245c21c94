"""A film that plays while it grows: its pieces, and that the finished file does not know of them."""

from __future__ import annotations

import io
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import EncodingError
from model.media.ffmpeg import ffmpeg_path
from model.media.fragments import FragmentWriter, read_pieces
from model.media.frames import VideoFrames
from model.media.video_writer import LiveOutput, VideoWriter
from tests.uploads import tone

WIDTH, HEIGHT, FPS = 96, 64, 25.0


def frames(count: int) -> list[NDArray[np.uint8]]:
    """A bar that moves one step a frame, on grey."""
    pictures = []
    for index in range(count):
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        picture[:, 2 * index : 2 * index + 8] = 220
        pictures.append(picture)
    return pictures


class Pieces:
    """What a film was told to watchers in."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_complete = False
        self.has_fragment = threading.Event()

    def __call__(self, piece: bytes | None) -> None:
        if piece is None:
            self.is_complete = True
            return
        self.taken.append(piece)
        if len(self.taken) == 2:
            self.has_fragment.set()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    path.write_bytes(tone(1.0))
    return path


def written(path: Path, sound: Path | None, live: LiveOutput | None, count: int = 25) -> bytes:
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=FPS, sound=sound, live=live) as writer:
        for frame in frames(count):
            writer.write(frame)
    return path.read_bytes()


def decoded(content: bytes, folder: Path) -> list[NDArray[np.uint8]]:
    """All frames of an MP4; ffmpeg says nothing about it."""
    path = folder / "watched.mp4"
    path.write_bytes(content)
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, check=True).stderr
    assert said == b""
    video = VideoFrames(path, FPS)
    return list(video.read(0, video.num_frames))


def test_the_finished_file_is_the_same_whether_somebody_watches_or_not(
    tmp_path: Path, sound: Path
) -> None:
    pieces = Pieces()

    alone = written(tmp_path / "alone.mp4", sound, None)
    watched = written(tmp_path / "watched.mp4", sound, LiveOutput(pieces, 25))

    assert watched == alone
    assert pieces.is_complete


def test_fragments_are_cut_where_they_should_be_and_any_beginning_plays(
    tmp_path: Path, sound: Path
) -> None:
    pieces = Pieces()
    written(tmp_path / "film.mp4", sound, LiveOutput(pieces, 25))

    head, *fragments = pieces.taken
    assert [piece[4:8] for piece in pieces.taken] == [b"ftyp", *[b"moof"] * 3]
    shown = [len(decoded(head + b"".join(fragments[:count]), tmp_path)) for count in (1, 2, 3)]
    assert shown == [2, 14, 25]
    last = decoded(head + b"".join(fragments), tmp_path)[-1]
    error = np.abs(last.astype(int) - frames(25)[-1]).mean()
    assert error < 6.0, "it is the frame that was drawn"


def test_a_fragment_comes_while_the_film_is_written_and_whoever_writes_it_makes_the_same(
    tmp_path: Path, sound: Path
) -> None:
    first, second = Pieces(), Pieces()

    def writer(pieces: Pieces) -> FragmentWriter:
        return FragmentWriter(
            pieces,
            width=WIDTH,
            height=HEIGHT,
            fps=FPS,
            num_frames=25,
            sound=sound,
            channels=1,
            tags={},
        )

    broken_off, whole = writer(first), writer(second)
    for index, frame in enumerate(frames(25)):
        if index < 8:
            broken_off.write(frame)
        whole.write(frame)
    assert first.has_fragment.wait(60), "the first fragment does not wait for later frames"
    broken_off.abort()
    whole.close()

    assert not first.is_complete
    assert second.is_complete
    assert second.taken[: len(first.taken)] == first.taken


def test_a_film_that_ends_too_soon_is_not_called_complete(tmp_path: Path) -> None:
    pieces = Pieces()

    written(tmp_path / "film.mp4", None, LiveOutput(pieces, 30), count=25)

    assert not pieces.is_complete


def refuse(piece: bytes | None) -> None:
    raise ConnectionError("nobody is there")


def test_a_watcher_who_fails_costs_the_file_nothing_unless_the_film_is_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "film.mp4"

    assert written(path, None, LiveOutput(refuse, 25)) == written(
        tmp_path / "alone.mp4", None, None
    )
    assert "nobody is there" in caplog.text
    path.unlink()
    with pytest.raises(EncodingError, match="nobody is there"):
        written(path, None, LiveOutput(refuse, 25, is_vital=True))
    assert list(tmp_path.iterdir()) == [tmp_path / "alone.mp4"]


@pytest.mark.parametrize(
    "content", [b"\0\0\0\x10moof\0\0\0\0", b"\0\0\0\x04moof", b"\0\0", b"\xff\xff\xff\xffmdat"]
)
def test_what_is_no_whole_box_is_refused(content: bytes) -> None:
    with pytest.raises(EncodingError, match="box"):
        list(read_pieces(io.BytesIO(content)))
