"""talkface_client and a whole service."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.media.probe import probe
from talkface_client import (
    ApiError,
    AsyncClient,
    Client,
    JobEndedError,
    JobPublic,
    JobState,
    RetryPolicy,
)

# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("service")


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_portrait_and_a_voice_become_a_file(
    client: Client, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    told: list[JobPublic] = []
    film = tmp_path / "film.mp4"
    film.write_bytes(b"an older film")

    made = client.animate(portrait, voice, film, preset="preview", on_progress=told.append)

    assert made == film
    assert (probe(film).num_frames, probe(film).audio_codec) == (25, "aac")
    assert told[-1].state is JobState.succeeded
    assert told[-1].input.options.preset == "preview"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert client.thumbnail(told[-1].id).startswith(b"\xff\xd8")


def test_the_same_as_coroutines(server: Any, portrait: Path, voice: Path, tmp_path: Path) -> None:
    sound = voice.read_bytes()

    async def two() -> tuple[list[Path], list[JobPublic]]:
        async with AsyncClient(server.url) as client:
            made = await asyncio.gather(
                client.animate([portrait, portrait], sound, tmp_path / "1.mp4"),
                client.animate(portrait, None, tmp_path / "2.mp4", seconds=1, loop=True),
            )
            return made, [job async for job in client.jobs()]

    made, jobs = asyncio.run(two())

    assert [probe(path).audio_codec for path in made] == ["aac", None]
    assert len([job for job in jobs if job.input.references]) == 1


def test_a_key_finds_the_job_that_it_made(client: Client, portrait: Path, voice: Path) -> None:
    first = client.submit(portrait, voice, idempotency_key="episode-7")

    assert client.submit(portrait, voice, idempotency_key="episode-7").id == first.id
    with pytest.raises(ApiError) as caught:
        client.submit(portrait, voice, idempotency_key="episode-7", seed=1)
    assert caught.value.code == "idempotency_conflict"


def test_what_is_wrong_is_told(client: Client, portrait: Path, tmp_path: Path) -> None:
    with pytest.raises(ApiError) as caught:
        client.animate(portrait, portrait, tmp_path / "film.mp4")
    assert caught.value.code == "unsupported_media_type"

    job = client.submit(portrait, None, seconds=1)
    client.delete(job.id)
    with pytest.raises(ApiError) as caught:
        client.job(job.id)
    assert caught.value.code == "job_not_found"


def test_a_job_without_a_video_raises(client: Client, portrait: Path, tmp_path: Path) -> None:
    # 3600 frames are not drawn before the cancellation comes.
    job = client.cancel(client.submit(portrait, None, seconds=60, fps=60).id)
    ended = client.wait(job.id)

    assert ended.state is JobState.cancelled
    with pytest.raises(JobEndedError, match="cancelled"):
        client.download(ended, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_it_is_ready(client: Client) -> None:
    assert client.ready().live_workers == 1


def test_what_is_kept_is_used(
    client: Client, server: Any, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    # This service draws test cards and has no inspector: an avatar can be used all the same.
    avatar = client.create_avatar(portrait)
    file = client.create_file(voice)
    assert (avatar.state, client.avatar(avatar.id).state) == ("preparing", "preparing")
    assert [one.id for one in client.avatars()] == [avatar.id]
    assert [one.id for one in client.files()] == [client.file(file.id).id]

    film = client.animate(None, None, tmp_path / "1.mp4", avatar_id=avatar.id, audio_id=file.id)

    assert probe(film).num_frames == 25
    client.delete_avatar(avatar.id)
    client.delete_file(file.id)
    with pytest.raises(ApiError) as error:
        client.avatar(avatar.id)
    assert error.value.code == "avatar_not_found"
    with (
        Client(server.url, retry=RetryPolicy(for_s=0.0)) as impatient,
        pytest.raises(ApiError) as error,
    ):
        impatient.faces(portrait)
    assert error.value.code == "not_ready"


def test_the_command_line_keeps_things(server: Any, portrait: Path, voice: Path) -> None:
    def talkface(*words: str) -> str:
        command = [sys.executable, "-m", "talkface", *words, "--url", str(server.url)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    for kind, source, more in (("avatars", portrait, ("--wait", "0")), ("files", voice, ())):
        added = talkface(kind, "add", str(source), *more).strip()
        assert [one["id"] for one in json.loads(talkface(kind, "list", "--json"))] == [added]
        assert added[:8] in talkface(kind, "list")
        talkface(kind, "rm", added)
        assert json.loads(talkface(kind, "list", "--json")) == []
