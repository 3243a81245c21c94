"""The artifact store on a real folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from worker.contract.artifacts import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    ArtifactStore,
    StorageFullError,
)

KEY = "results/0123abcd/token-1.mp4"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "data")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def test_what_is_put_can_be_read_whole_and_in_ranges(store: ArtifactStore, video: Path) -> None:
    content = video.read_bytes()

    store.put(KEY, video)

    assert not video.exists(), "nobody can change what is published"
    assert store.stat(KEY).bytes == len(content)
    assert b"".join(store.read_range(KEY, 0, len(content))) == content
    assert b"".join(store.read_range(KEY, 300_001, 900_007)) == content[300_001:900_007]
    with store.local_copy(KEY) as path:
        assert path.read_bytes() == content


def test_a_key_is_published_once(store: ArtifactStore, video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    store.put(KEY, video)

    with pytest.raises(ArtifactExistsError):
        store.put(KEY, other)

    assert store.stat(KEY).bytes == 2**20
    assert other.exists(), "what was refused is still the caller's"


def test_of_many_who_publish_at_once_one_succeeds(
    store: ArtifactStore, video: Path, tmp_path: Path
) -> None:
    outcomes: list[str] = []

    def publish(number: int) -> None:
        copy = tmp_path / f"copy-{number}"
        copy.write_bytes(video.read_bytes())
        try:
            store.put(KEY, copy)
            outcomes.append("published")
        except ArtifactExistsError:
            outcomes.append("refused")

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["published"] + ["refused"] * 7
    leftovers = [path for path in (tmp_path / "data").rglob("*") if ".incoming" in path.name]
    assert leftovers == []


@pytest.mark.parametrize(
    "key",
    ["../x", "/etc/passwd", "a/../b", "a//b", "", ".hidden", "a/.b", "A", "a b", "a\0b", "a/b.c.d"],
)
def test_a_key_that_is_not_ours_becomes_no_path(
    store: ArtifactStore, video: Path, key: str
) -> None:
    with pytest.raises(ValueError, match="not an artifact key"):
        store.put(key, video)


def test_what_is_absent_is_told(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFoundError):
        store.stat(KEY)
    with pytest.raises(ArtifactNotFoundError):
        store.read_range(KEY, 0, 1)
    with pytest.raises(ArtifactNotFoundError), store.local_copy(KEY):
        pass


def test_a_prefix_is_erased_and_its_neighbours_stay(store: ArtifactStore, video: Path) -> None:
    other = video.with_name("other")
    other.write_bytes(b"x")
    store.put("inputs/a/input.png", video)
    store.put("inputs/ab/input.png", other)

    store.delete_prefix("inputs/a")
    store.delete_prefix("inputs/a")

    assert store.stat("inputs/ab/input.png").bytes > 0
    with pytest.raises(ArtifactNotFoundError):
        store.stat("inputs/a/input.png")


def test_what_comes_from_another_volume_is_copied(store: ArtifactStore) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("no second volume here")
    elsewhere = shared_memory / f"talkface-test-{os.getpid()}"
    elsewhere.write_bytes(b"elsewhere")

    store.put(KEY, elsewhere)

    assert not elsewhere.exists()
    with store.local_copy(KEY) as path:
        assert path.read_bytes() == b"elsewhere"
        assert path.stat().st_mode & 0o077 == 0


def test_a_volume_that_would_run_full_is_refused(tmp_path: Path, video: Path) -> None:
    store = ArtifactStore(tmp_path / "data", min_free_bytes=2**62)

    with pytest.raises(StorageFullError):
        store.put(KEY, video)
    with pytest.raises(ArtifactNotFoundError):
        store.stat(KEY)


def test_the_sweep_takes_what_is_old_and_nothing_else(
    store: ArtifactStore, video: Path, tmp_path: Path
) -> None:
    store.put(KEY, video)
    crashed = tmp_path / "data" / "scratch" / "crashed"
    crashed.mkdir(parents=True)
    (crashed / "half.mp4").write_bytes(b"half")
    half_copied = tmp_path / "data" / "artifacts" / "results" / ".incoming-x"
    half_copied.write_bytes(b"half")
    for path in (crashed, half_copied, tmp_path / "data" / "artifacts" / KEY):
        os.utime(path, (0, 0))

    with store.scratch() as folder:
        assert store.sweep(older_than_s=3600) == 2
        assert folder.is_dir()

    assert not crashed.exists()
    assert not half_copied.exists()
    assert store.stat(KEY).bytes > 0
    assert not folder.exists()
