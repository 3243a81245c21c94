"""How an upload is received: rights before the body, wrong parts at once, nothing left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient
from starlette.types import Message

from service.keys import KeyStore, Scope
from tests.uploads import picture, tone
from worker.contract.idempotency import IdempotencyKey
from worker.contract.ledger import Ledger

BOUNDARY = "b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def text(name: str, value: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return f"{head}{value}\r\n".encode()


def file(name: str, content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
GOOD = file("audio", tone(0.3)) + file("image", picture()) + END


class Upload:
    """One request to an application, piece by piece; counts how much of it was read."""

    def __init__(self, app: Any, headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._headers = {**FORM, **(headers or {})}
        self.read = 0
        self.answer: list[Message] = []
        self.leaves = False
        self.leaves_after_body = False
        self.before: Callable[[], None] = lambda: None

    def send(self, *pieces: bytes, then_endless: bytes = b"") -> int:
        """Send pieces, then perhaps one of them again and again; the answer's status, 0 = none."""

        async def run() -> None:
            self.before()
            await self._app(
                self._scope(), self._receive(pieces, then_endless).__anext__, self._send
            )

        asyncio.run(run())
        return int(self.answer[0]["status"]) if self.answer else 0

    async def _receive(self, pieces: tuple[bytes, ...], endless: bytes) -> AsyncIterator[Message]:
        for number, piece in enumerate(pieces):
            self.read += len(piece)
            more = bool(endless) or number + 1 < len(pieces) or self.leaves
            yield {"type": "http.request", "body": piece, "more_body": more}
        while endless:
            assert self.read < 2**30, "an endless upload is read for ever"
            self.read += len(endless)
            yield {"type": "http.request", "body": endless, "more_body": True}
        if not (self.leaves or self.leaves_after_body):
            await asyncio.sleep(3600)
        await asyncio.sleep(0.2)
        yield {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.answer.append(message)

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": "POST",
            "path": "/v1/talking-face",
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "headers": [(k.lower().encode(), v.encode()) for k, v in self._headers.items()],
        }


@pytest.fixture
def key_of(keys: KeyStore) -> Callable[..., dict[str, str]]:
    def make(*scopes: Scope, **options: Any) -> dict[str, str]:
        _, key = keys.create("k", scopes=scopes, **options)
        return {"Authorization": f"Bearer {key}"}

    return make


def code(upload: Upload) -> str:
    body = b"".join(message.get("body", b"") for message in upload.answer[1:])
    return str(json.loads(body)["code"])


def nothing_left(data_dir: Path) -> bool:
    kept = {path for path in data_dir.rglob("*") if path.is_file()}
    return not {path for path in kept if "keys" not in path.parts and "secrets" not in path.parts}


# --- before the body ----------------------------------------------------------------------------


def test_who_may_not_write_is_told_before_the_body(
    make_app: Callable[..., Any], key_of: Callable[..., dict[str, str]]
) -> None:
    upload = Upload(make_app(require_keys=True), key_of(Scope.READ))

    assert (upload.send(GOOD), code(upload), upload.read) == (403, "forbidden", 0)


def test_who_asks_too_often_is_told_before_the_body(
    make_app: Callable[..., Any], key_of: Callable[..., dict[str, str]]
) -> None:
    app, key = make_app(require_keys=True, write_rate="1/day"), key_of(Scope.WRITE)
    assert Upload(app, key).send(GOOD) == 202

    upload = Upload(app, key)

    assert (upload.send(GOOD), code(upload), upload.read) == (429, "rate_limited", 0)


def test_who_has_enough_open_jobs_is_told_before_the_body(
    make_app: Callable[..., Any], key_of: Callable[..., dict[str, str]]
) -> None:
    app, key = make_app(require_keys=True), key_of(Scope.WRITE, max_concurrent_jobs=1)
    assert Upload(app, key).send(GOOD) == 202

    upload = Upload(app, key)

    assert (upload.send(GOOD), code(upload), upload.read) == (429, "concurrency_limited", 0)


def test_a_full_queue_is_told_before_the_body(make_app: Callable[..., Any]) -> None:
    app = make_app(max_open_jobs=1)
    assert Upload(app).send(GOOD) == 202

    upload = Upload(app)

    assert (upload.send(GOOD), code(upload), upload.read) == (503, "queue_full", 0)


def test_a_declared_length_over_the_limit_is_told_before_the_body(
    make_app: Callable[..., Any],
) -> None:
    upload = Upload(make_app(), {"Content-Length": str(2**40)})

    assert (upload.send(GOOD), code(upload), upload.read) == (413, "file_too_large", 0)


def test_a_declared_length_without_room_on_the_disk_is_told_before_the_body(
    make_app: Callable[..., Any],
) -> None:
    upload = Upload(make_app(min_free_bytes=2**60), {"Content-Length": "999"})

    assert (upload.send(GOOD), code(upload), upload.read) == (507, "insufficient_storage", 0)


def test_a_key_in_progress_is_told_before_the_body(
    make_app: Callable[..., Any], ledger: Ledger
) -> None:
    first = IdempotencyKey(principal="anonymous", key="k")
    assert ledger.idempotency_reserve(first) is None
    upload = Upload(make_app(), {"Idempotency-Key": "k"})

    assert (upload.send(GOOD), code(upload), upload.read) == (409, "idempotency_in_progress", 0)
    ledger.idempotency_release(first)
    assert Upload(make_app(), {"Idempotency-Key": "k"}).send(GOOD) == 202


def test_asking_again_for_a_job_that_exists_needs_no_place(
    make_app: Callable[..., Any], key_of: Callable[..., dict[str, str]]
) -> None:
    app = make_app(require_keys=True)
    key = {**key_of(Scope.WRITE, max_concurrent_jobs=1), "Idempotency-Key": "k"}
    assert Upload(app, key).send(GOOD) == 202

    assert Upload(app, key).send(GOOD) == 202


# --- while it arrives ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "status", "word"),
    [
        ([text("fps", "1000"), file("audio", tone(0.3))], 422, "invalid_options"),
        ([text("fsp", "25"), file("audio", tone(0.3))], 422, "invalid_options"),
        ([text("callback_url", "http://x"), file("audio", tone(0.3))], 422, "invalid_options"),
        ([file("portrait", picture())], 422, "invalid_options"),
        ([file("fps", b"25")], 422, "invalid_options"),
        ([text("audio", "la la la")], 422, "invalid_options"),
        ([file("audio", tone(0.3)), file("audio", tone(0.3))], 422, "invalid_options"),
        ([file("audio", picture() + bytes(99))], 415, "unsupported_media_type"),
        ([file("image", tone(0.3))], 415, "unsupported_media_type"),
        ([file("audio", b"")], 422, "undecodable_media"),
        ([file("audio", tone(120.0))], 413, "file_too_large"),
    ],
)
def test_what_is_wrong_ends_the_upload_at_once(
    make_app: Callable[..., Any], data_dir: Path, pieces: list[bytes], status: int, word: str
) -> None:
    upload = Upload(make_app(max_audio_bytes=2**20))
    rest = file("image", picture())[:-2] + bytes(2**20)

    assert upload.send(*pieces, then_endless=rest) == status

    assert code(upload) == word
    assert upload.read < 8 * 2**20, "the rest was dropped"
    assert nothing_left(data_dir)


@pytest.mark.parametrize("is_declared", [True, False])
def test_all_bodies_together_are_bounded(make_app: Callable[..., Any], is_declared: bool) -> None:
    app = make_app(max_receiving_bytes=len(GOOD))
    declared = {"Content-Length": str(len(GOOD) + 9)} if is_declared else {}
    upload = Upload(app, declared)

    assert upload.send(GOOD[:-9], bytes(9), GOOD[-9:]) == 503
    assert code(upload) == "queue_full"
    assert Upload(app).send(GOOD) == 202, "what was counted is free again"


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"no boundary here", {"Content-Type": "multipart/form-data"}, "malformed_request"),
        (
            b"audio=x",
            {"Content-Type": "application/x-www-form-urlencoded"},
            "unsupported_media_type",
        ),
        (b"{}", {"Content-Type": "application/json"}, "unsupported_media_type"),
        (b"--b0undary\r\nnonsense", FORM, "invalid_options"),
        (b"", FORM, "invalid_options"),
    ],
)
def test_what_is_no_form_is_told(
    client: TestClient, content: bytes, headers: dict[str, str], code: str
) -> None:
    response = client.post("/v1/talking-face", content=content, headers=headers)

    assert response.json()["code"] == code
    assert response.status_code in (400, 415, 422)


def test_an_option_after_the_files_counts_as_well(make_app: Callable[..., Any]) -> None:
    upload = Upload(make_app())

    files = GOOD.removesuffix(END)
    assert upload.send(files + text("fps", "1000") + END) == 422
    assert Upload(make_app()).send(files + text("fps", "30") + END) == 202


# --- clients that leave -------------------------------------------------------------------------


def test_a_client_that_leaves_on_the_way_leaves_nothing(
    make_app: Callable[..., Any], data_dir: Path, redis: Redis
) -> None:
    upload = Upload(make_app(), {"Idempotency-Key": "k"})
    upload.leaves = True

    assert upload.send(GOOD[:2000]) == 0

    assert nothing_left(data_dir)
    assert redis.keys("tf:*") == []


def test_a_client_that_left_is_not_decoded(
    make_app: Callable[..., Any], data_dir: Path, redis: Redis
) -> None:
    app = make_app(parallel_decodes=1)
    limiter = app.state.resources.accept_limiter
    upload = Upload(app)
    upload.leaves_after_body = True
    # Somebody else is decoding; the client goes while it waits.
    upload.before = lambda: limiter.acquire_on_behalf_of_nowait("somebody")

    assert upload.send(GOOD) == 0

    assert limiter.statistics().tasks_waiting == 0
    assert nothing_left(data_dir)
    assert redis.zcard("tf:{j}:open") == 0


def test_a_decoder_is_stopped_when_its_client_leaves(
    make_app: Callable[..., Any], data_dir: Path, redis: Redis
) -> None:
    upload = Upload(make_app())
    upload.leaves_after_body = True
    # Long enough to be in the middle of it.
    long = file("image", picture()) + file("audio", tone(540.0)) + END

    assert upload.send(long) == 0

    assert nothing_left(data_dir)
    assert list((data_dir / "scratch").iterdir()) == []
    assert redis.zcard("tf:{j}:open") == 0
