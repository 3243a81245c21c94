"""Lists of videos to make, and what is remembered of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from talkface.batch import BatchError, Row, check_output, read_batch
from talkface.batch_state import NAME, BatchState, key_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ada.jpg", "ada.wav", "bob.heic", "bob.m4a", "clip.mp4", "clip.mp3"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_folder_has_what_goes_together_by_name(folder: Path) -> None:
    rows = read_batch(folder)

    assert [str(row.output) for row in rows] == ["ada.mp4", "bob.mp4", "clip.mp4"]
    assert rows[1].files == {"image": (folder / "bob.heic",), "audio": (folder / "bob.m4a",)}
    assert rows[2].files == {"video": (folder / "clip.mp4",), "audio": (folder / "clip.mp3",)}


def test_a_csv_has_files_outputs_and_options(folder: Path) -> None:
    (folder / "list.csv").write_text(
        "\ufeffimage,audio,output,preset,seconds\n"
        "ada.jpg,ada.wav,day/one.mp4,fast,\n"
        "bob.heic,,,,2\n",
        encoding="utf-8",
    )

    first, second = read_batch(folder / "list.csv")

    assert (first.output, dict(first.options)) == (PurePath("day/one.mp4"), {"preset": "fast"})
    assert (second.output, dict(second.options)) == (PurePath("bob.mp4"), {"seconds": "2"})
    assert set(second.files) == {"image"}


def test_jsonl_may_have_several_pictures(folder: Path) -> None:
    line = {"image": ["ada.jpg", "bob.heic"], "audio": "ada.wav", "seed": 3, "preset": None}
    (folder / "list.jsonl").write_text(json.dumps(line) + "\n\n")

    [row] = read_batch(folder / "list.jsonl")

    assert row.files["image"] == (folder / "ada.jpg", folder / "bob.heic")
    assert dict(row.options) == {"seed": 3}


def test_what_a_service_keeps_stands_instead_of_files(folder: Path) -> None:
    (folder / "list.csv").write_text("avatar_id,audio\nabc,ada.wav\n")

    [row] = read_batch(folder / "list.csv")

    assert (row.output, dict(row.options)) == (PurePath("ada.mp4"), {"avatar_id": "abc"})


def remove_sound(folder: Path) -> Path:
    (folder / "ada.wav").unlink()
    return folder


def csv(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "list.csv").write_text(text)
        return folder / "list.csv"

    return write


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (remove_sound, "one sound called 'ada', got ada.jpg"),
        (csv("image,audio\nada.jpg,none.wav\n"), "line 2: there is no file"),
        (csv("image,audio\nada.jpg\n"), "line 2: expected 2 values"),
        (csv("audio\nada.wav\n"), "line 2: expected an `image`, a `video`"),
        (csv("avatar_id,audio_id\n0,1\n"), "line 2: expected an `output`"),
        (csv("image,audio,output\nada.jpg,ada.wav,a.webm\n"), "line 2: The video is an MP4"),
        (csv("image,audio,output\nada.jpg,ada.wav,../a.mp4\n"), "not below the output folder"),
        (csv("image,audio\nada.jpg,ada.wav\nbob.heic,ada.wav\n"), "both make ada.mp4"),
        (csv("image,audio\n"), "names no video to make"),
        (lambda folder: folder / "ada.jpg", "neither a folder nor"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    folder: Path, make: Callable[[Path], Path], told: str
) -> None:
    with pytest.raises(BatchError, match=told):
        read_batch(make(folder))


@pytest.mark.parametrize("name", ["o.webm", "-", "video", "o.mp4.mov"])
def test_an_output_is_called_what_it_is(name: str) -> None:
    with pytest.raises(BatchError, match="The video is an MP4"):
        check_output(Path(name))


def test_what_was_saved_is_known_again_unless_anything_changed(folder: Path) -> None:
    row = read_batch(folder)[0]
    key = key_of(row, {"preset": "fast"}, "here")
    out = folder / "out"
    state = BatchState(out)
    (out / "ada.mp4").write_bytes(b"VIDEO")
    state.saved(replace(state.of(row, key), job="1"))
    with (out / NAME).open("a") as stream:
        stream.write('{"key": "cut o')  # a crash while it was written

    again = BatchState(out)

    assert again.of(row, key).job == "1"
    assert again.is_saved(again.of(row, key))
    assert not again.is_saved(again.of(row, key_of(row, {"preset": "quality"}, "here")))
    assert not again.is_saved(again.of(row, key_of(row, {"preset": "fast"}, "there")))
    (folder / "ada.wav").write_bytes(b"another voice")
    assert key_of(row, {"preset": "fast"}, "here") != key
    (out / "ada.mp4").write_bytes(b"cut")
    assert not again.is_saved(again.of(row, key))


def test_rows_that_are_equal_but_for_their_output_are_two(folder: Path) -> None:
    row = read_batch(folder)[0]
    other = Row(row.place, row.files, PurePath("other.mp4"))
    state = BatchState(folder / "out")
    key = key_of(row, {}, "here")
    (folder / "out" / "ada.mp4").write_bytes(b"VIDEO")

    state.saved(state.of(row, key))

    assert key_of(other, {}, "here") == key
    assert not state.is_saved(state.of(other, key))
