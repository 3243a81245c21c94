"""Which films a set holds, who is in them, and what is never trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.layouts import LAYOUTS, find_sources
from model.data.split import clip_held_out, identity_held_out
from model.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_grid_holds_out_sentences(tmp_path: Path) -> None:
    touch(tmp_path, "s2/bbaf2n.mpg", "s1/bbbm3a.mkv", "s1/align/bbbm3a.align", "s1/.hidden.mpg")
    sources = find_sources("grid", tmp_path)
    assert [(s.name, s.identity, s.held_out) for s in sources] == [
        ("s1/bbbm3a.mkv", "s1", clip_held_out("bbbm3a")),
        ("s2/bbaf2n.mpg", "s2", clip_held_out("bbaf2n")),
    ]
    assert sources[0].held_out
    assert [s.identity for s in find_sources("grid", tmp_path / "s1")] == ["s1"]


def test_hdtf_reads_times_and_names(tmp_path: Path) -> None:
    touch(tmp_path, "WDA_BarackObama_000.mp4", "WDA_BarackObama_001.mp4", "RD_Radio11.mp4")
    (tmp_path / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00 01:30-1:02:30.5\n\n")
    radio, first, second = find_sources("hdtf", tmp_path)
    assert radio.stretches == ((30.0, 60.0), (90.0, 3750.5))
    assert radio.identity == "RD_Radio11"
    assert first.stretches == second.stretches == ()
    assert first.identity == second.identity == "WDA_BarackObama"
    assert first.held_out == second.held_out == identity_held_out("WDA_BarackObama")
    (tmp_path / "RD_annotion_time.txt").write_text("Radio11.mp4 from the start\n")
    with pytest.raises(InputError, match=r"RD_annotion_time\.txt, line 1"):
        find_sources("hdtf", tmp_path)


@pytest.mark.parametrize("below", [".", "mp4"])
def test_voxceleb_finds_identities_and_sound(tmp_path: Path, below: str) -> None:
    touch(
        tmp_path,
        "mp4/id00012/21Uxsk56VDQ/00001.mp4",
        "mp4/id00012/21Uxsk56VDQ/00002.mp4",
        "mp4/readme/more/00002.mp4",
        "aac/id00012/21Uxsk56VDQ/00001.m4a",
    )
    first, second = find_sources("voxceleb", tmp_path / below)
    assert first.identity == second.identity == "id00012"
    assert first.sound == tmp_path / "aac/id00012/21Uxsk56VDQ/00001.m4a"
    assert second.sound is None


def test_folders_take_any_film(tmp_path: Path) -> None:
    touch(tmp_path, "ann/one.MOV", "ann/deep/two.webm", "bob.avi", "notes.txt")
    found = {s.name: s.identity for s in find_sources("folder", tmp_path)}
    assert found == {"ann/deep/two.webm": "ann", "ann/one.MOV": "ann", "bob.avi": "bob"}


def test_a_limit_keeps_some_of_both_splits(tmp_path: Path) -> None:
    touch(tmp_path, *(f"s1/clip{i}.mpg" for i in range(400)))
    chosen = find_sources("grid", tmp_path, limit=12)
    assert len(chosen) == 12
    assert sum(source.held_out for source in chosen) == 4
    assert chosen == sorted(chosen, key=lambda source: source.name)
    more = {source.name for source in find_sources("grid", tmp_path, limit=24)}
    assert {source.name for source in chosen} <= more


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_another_layout_is_named(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=f"no film in the layout '{layout}'"):
        find_sources(layout, tmp_path)  # type: ignore[arg-type]
