"""`text` instead of `audio`: a real voice server reads it, and what happens where none can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from model.media.probe import probe
from tests.integration.conftest import MakeClient, StartWorker
from tests.uploads import picture, tone
from tests.voice_server import VoiceServer

IMAGE = ("image", ("i.jpg", picture()))


@pytest.fixture(scope="module")
def voices() -> Iterator[VoiceServer]:
    with VoiceServer() as server:
        yield server


@pytest.fixture
def client(voices: VoiceServer, make_client: MakeClient) -> TestClient:
    voices.requests.clear()
    voices.failures.clear()
    voices.sound = None
    return make_client(tts_url=voices.url, tts_voice="en", tts_api_key="secret")


def send(client: TestClient, *files: Any, key: str | None = None, **options: str) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/talking-face", files=[IMAGE, *files], data=options, headers=headers)


def test_a_text_becomes_a_video_that_speaks(
    client: TestClient, voices: VoiceServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()

    answer = client.post(
        "/v1/talking-face",
        files=[IMAGE],
        data={"text": "Good morning, everybody.", "language": "en-gb", "preset": "preview"},
        headers={"Prefer": "wait=60"},
    )

    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["state"] == "succeeded"
    assert 1.0 < job["input"]["audio"]["seconds"] < 4.0
    film = tmp_path / "film.mp4"
    film.write_bytes(client.get(job["links"]["content"]).content)
    info = probe(film)
    assert (info.audio_codec, info.num_frames) == ("aac", job["result"]["num_frames"])
    [asked] = voices.requests
    assert (asked["input"], asked["voice"]) == ("Good morning, everybody.", "en")
    assert (asked["language"], asked["lang_code"]) == ("en-gb", "en-gb")
    assert (asked["response_format"], asked["key"]) == ("wav", "Bearer secret")


def test_a_voice_server_that_is_busy_is_asked_again(
    client: TestClient, voices: VoiceServer
) -> None:
    voices.failures = [503, 0]

    answer = send(client, text="Guten Tag.", voice="de")

    assert answer.status_code == 202, answer.text
    assert [request["voice"] for request in voices.requests] == ["de"] * 3


def test_a_request_that_is_sent_again_is_not_spoken_again(
    client: TestClient, voices: VoiceServer
) -> None:
    first = send(client, text="Once.", key="1")
    again = send(client, text="Once.", key="1")
    other = send(client, text="Twice.", key="1")

    assert again.json()["id"] == first.json()["id"]
    assert other.json()["code"] == "idempotency_conflict"
    assert len(voices.requests) == 1


@pytest.mark.parametrize(
    ("failures", "sound"), [([500, 500, 500], None), ([401], None), ([], b"<html>hello</html>")]
)
def test_what_the_voice_server_cannot_do_is_no_fault_of_the_caller(
    client: TestClient, voices: VoiceServer, failures: list[int], sound: bytes | None
) -> None:
    voices.failures, voices.sound = failures, sound

    answer = send(client, text="Hello.", key="1")

    assert (answer.status_code, answer.json()["code"]) == (503, "speech_unavailable")
    assert answer.headers["retry-after"] == "10"
    voices.sound = None
    # The key is free again.
    assert send(client, text="Hello.", key="1").status_code == 202


def test_a_voice_that_does_not_exist_is_told(client: TestClient) -> None:
    answer = send(client, text="Hello.", voice="zz")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options")
    assert "there is no voice zz" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("options", "has_audio", "field"),
    [
        ({"text": "Hello."}, True, "text"),
        ({"text": "Hello.", "seconds": "2"}, False, "text"),
        ({"voice": "en"}, True, "voice"),
        ({"language": "en", "seconds": "2"}, False, "language"),
        ({"text": "x" * 5001}, False, "text"),
        ({"text": ""}, False, "text"),
        ({}, False, "audio"),
    ],
)
def test_exactly_one_says_what_is_heard(
    client: TestClient, voices: VoiceServer, options: dict[str, str], has_audio: bool, field: str
) -> None:
    files = [("audio", ("a.wav", tone(0.4)))] if has_audio else []

    answer = send(client, *files, **options)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert voices.requests == []


def test_without_a_voice_server_the_way_out_is_told(make_client: MakeClient) -> None:
    answer = send(make_client(), text="Hello.")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_options")
    assert "`audio`" in answer.json()["detail"] and "TALKFACE_TTS_URL" in answer.json()["detail"]
