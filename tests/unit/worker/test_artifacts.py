"""The artifact store on a real folder and in a real bucket: the same verbs, the same answers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from worker.contract.artifact_folder import FolderStore
from worker.contract.artifacts import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    ArtifactStore,
    StorageFullError,
)

KEY = "results/0123abcd/token-1.mp4"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "data")
    made: ArtifactStore = request.getfixturevalue("bucket_store")
    return made


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "data")


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


def test_a_key_that_is_not_ours_becomes_no_path(store: ArtifactStore, video: Path) -> None:
    broken = ["../x", "/etc/passwd", "a/../b", "a//b", "", ".hidden", "a/.b", "A", "a b", "a\0b"]
    for key in (*broken, "a/b.c.d"):
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


def test_what_comes_from_another_volume_is_copied(folder_store: FolderStore) -> None:
    store = folder_store
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
    store = FolderStore(tmp_path / "data", min_free_bytes=2**62)

    with pytest.raises(StorageFullError):
        store.put(KEY, video)
    with pytest.raises(ArtifactNotFoundError):
        store.stat(KEY)


def test_names_are_those_directly_below_with_their_age(store: ArtifactStore, video: Path) -> None:
    for name in ("inputs/a/input.png", "inputs/a/speech.flac", "inputs/ab/job.json", "inputs/x"):
        copy = video.with_name("copy")
        copy.write_bytes(b"x")
        store.put(name, copy)

    names = store.names("inputs")

    assert set(names) == {"a", "ab", "x"}
    assert all(0 <= age_s < 60 for age_s in names.values())
    assert set(store.names("inputs/a")) == {"input.png", "speech.flac"}
    assert store.names("results") == {}


def test_one_file_is_erased(store: ArtifactStore, video: Path) -> None:
    store.put(KEY, video)

    store.delete(KEY)
    store.delete(KEY)

    assert store.names("results/0123abcd") == {}


def test_an_empty_range_is_empty(store: ArtifactStore, video: Path) -> None:
    store.put(KEY, video)

    assert list(store.read_range(KEY, 7, 7)) == []


def test_it_says_that_it_can_be_written(store: ArtifactStore) -> None:
    store.check_writable()


def test_the_sweep_takes_what_is_old_and_nothing_else(
    folder_store: FolderStore, video: Path, tmp_path: Path
) -> None:
    store = folder_store
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
