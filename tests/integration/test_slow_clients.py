"""Clients that send slowly, endlessly, too much or nothing, on real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.integration.conftest import PATIENCE_S, RedisServer, eventually
from tests.integration.live_server import LiveServer, live_server
from tests.uploads import picture, tone

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = (
    b"POST /v1/talking-face HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n"
)
# Small limits, so that the tests wait for seconds rather than minutes.
QUICK = {"header_timeout_s": 1.0, "keep_alive_s": 1.0, "body_stall_s": 1.0, "body_timeout_s": 2.0}


@pytest.fixture
def server(redis_server: RedisServer, data_dir: Path) -> Iterator[LiveServer]:
    with live_server(redis_server.url, data_dir, **QUICK) as server:
        yield server


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=PATIENCE_S) as client:
        yield client


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes; a server that does not is an error."""
    pieces = []
    while piece := client.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def send_until_closed(client: socket.socket, piece: bytes, most_bytes: int) -> int:
    """Send the same again and again; how many bytes the server let us send."""
    sent_bytes = 0
    with contextlib.suppress(ConnectionError):
        while sent_bytes < most_bytes:
            client.sendall(piece)
            sent_bytes += len(piece)
    return sent_bytes


def problem(answer: bytes) -> dict[str, Any]:
    """The problem document of the one response in `answer`."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    told: dict[str, Any] = json.loads(body)
    assert lines[0].startswith(f"http/1.1 {told['status']} ")
    assert "content-type: application/problem+json" in lines
    assert "connection: close" in lines
    assert f"x-request-id: {told['request_id']}" in lines
    return told


def is_healthy(url: str) -> bool:
    return httpx2.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200


# --- heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 65_536),
        (b"GET /", b"x" * 65_536),
        (b"GET /healthz HTTP/1.1\r\n", b"a:b\r\n" * 10_000),
        (b"", b"\r\n" * 32_768),
    ],
    ids=["value", "address", "headers", "empty lines"],
)
def test_an_endless_head_is_cut(server: LiveServer, begin: bytes, piece: bytes) -> None:
    own_process = psutil.Process()
    before_bytes = own_process.memory_info().rss
    with connected(server.url) as client:
        client.sendall(begin)
        sent_bytes = send_until_closed(client, piece, most_bytes=2**28)
        told = problem(read_all(client))

    assert (told["code"], told["params"]) == ("header_too_large", {"limit_bytes": 65_536})
    # What the sockets hold, and what is thrown away after the answer.
    assert sent_bytes < 2**24
    # The server is in this process.
    assert own_process.memory_info().rss - before_bytes < 2**25


def test_an_endless_trailer_is_cut(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\n--x\r\n0\r\nX-Long: ")
        time.sleep(0.2)
        client.sendall(b"x" * 70_000)
        told = problem(read_all(client))

    assert told["code"] == "header_too_large"


def test_a_head_just_within_the_limit_is_served(server: LiveServer) -> None:
    answer = httpx2.get(f"{server.url}/healthz", headers={"X-Long": "x" * 64_000})

    assert answer.status_code == 200


def test_half_a_head_is_answered_and_closed(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(GET[:-2])
        told = problem(read_all(client))

    assert (told["status"], told["code"]) == (408, "request_timeout")


def test_a_head_that_never_ends_is_closed_though_bytes_come(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        client.setblocking(False)
        answer = b""

        def is_answered() -> bool:
            nonlocal answer
            try:
                client.send(b"x")
                answer += client.recv(65_536)
            except BlockingIOError:
                return False
            return bool(answer)

        eventually(is_answered, "the server answers")

    assert b"408 Request Timeout" in answer


def test_a_silent_connection_is_closed_without_a_word(server: LiveServer) -> None:
    with connected(server.url) as client:
        assert read_all(client) == b""


def test_an_idle_connection_is_closed_after_its_answer(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(GET)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 1

    with connected(server.url) as client:
        client.sendall(GET)
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 OK")
        client.sendall(GET[:10])
        assert problem(read_all(client))["code"] == "request_timeout"


def test_what_is_not_http_is_a_problem_too(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        told = problem(read_all(client))

    assert (told["status"], told["code"]) == (400, "malformed_request")


def test_requests_that_are_sent_ahead_are_served_up_to_a_bound(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(20 * GET)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 20

    with connected(server.url) as client:
        client.sendall(10_000 * GET)
        # Closed with unread bytes, which may be a reset.
        try:
            answers = read_all(client)
        except ConnectionResetError:
            answers = b""
        assert answers.count(b"HTTP/1.1 200 OK") < 40
    assert is_healthy(server.url)


def test_a_websocket_is_not_a_way_round_the_limits(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200 OK")


# --- bodies -------------------------------------------------------------------------------------


def test_a_body_that_stalls_is_refused_and_the_application_told(server: LiveServer) -> None:
    with connected(server.url) as client:
        client.sendall(POST + b"Content-Length: 1000\r\n\r\n--x\r\n")
        told = problem(read_all(client))

    assert (told["status"], told["code"]) == (408, "request_timeout")
    assert told["params"] == {"limit_s": 1.0}
    # The request has ended, so the application was told.
    eventually(lambda: requests_ended(server, "POST") == 1, "the request ends")


def requests_ended(server: LiveServer, method: str) -> float:
    text = httpx2.get(f"{server.url}/metrics").text
    return sum(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("tf_http_requests_total{") and f'method="{method}"' in line
    )


def test_a_body_that_takes_too_long_is_refused(server: LiveServer) -> None:
    answer = b""
    with connected(server.url) as client:
        client.sendall(POST + b"Content-Length: 100000\r\n\r\n--x\r\n")
        client.setblocking(False)

        def is_answered() -> bool:
            nonlocal answer
            try:
                client.send(b"x")
                answer += client.recv(65_536)
            except BlockingIOError:
                return False
            return bool(answer)

        eventually(is_answered, "the server answers")

    assert b"408 Request Timeout" in answer
    assert b'"limit_s":2.0' in answer


def test_an_ordinary_upload_is_accepted(server: LiveServer) -> None:
    files = {"audio": ("a.wav", tone(0.5)), "image": ("i.jpg", picture())}
    with server.client() as client:
        assert client.post("/v1/talking-face", files=files).status_code == 202


def test_an_answer_before_the_body_arrives_whole(redis_server: RedisServer, data_dir: Path) -> None:
    head = POST + b"Authorization: Bearer wrong\r\nContent-Length: 50000000\r\n\r\n"
    with live_server(redis_server.url, data_dir, require_keys=True, **QUICK) as server:
        for _ in range(5):
            with connected(server.url) as client:
                client.sendall(head)
                # All of it before the answer is read, as simple clients do.
                client.sendall(bytes(50_000_000))
                assert problem(read_all(client))["code"] == "unauthorized"


def test_who_goes_on_sending_after_the_answer_is_cut_off(
    redis_server: RedisServer, data_dir: Path
) -> None:
    head = POST + b"Content-Length: 9000000000\r\n\r\n"
    with (
        live_server(redis_server.url, data_dir, require_keys=True) as server,
        connected(server.url) as client,
    ):
        client.sendall(head)
        sent_bytes = send_until_closed(client, bytes(2**20), most_bytes=2**30)

    assert sent_bytes < 2**28


# --- many ---------------------------------------------------------------------------------------


def test_a_full_table_still_answers(redis_server: RedisServer, data_dir: Path) -> None:
    with live_server(redis_server.url, data_dir, max_connections=10) as server:
        port = port_of(server.url)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
        try:
            for client in clients:
                # Those that lost their place to a younger one are closed already.
                try:
                    client.sendall(GET[:10])
                except ConnectionError:
                    continue
            assert is_healthy(server.url)
            # The oldest lost its place, long before its time to send a head was over.
            clients[0].settimeout(5.0)
            with contextlib.suppress(ConnectionResetError):
                assert clients[0].recv(1000) == b""
        finally:
            for client in clients:
                client.close()


def test_where_all_are_busy_a_new_one_is_told(redis_server: RedisServer, data_dir: Path) -> None:
    with live_server(redis_server.url, data_dir, max_connections=3) as server:
        port = port_of(server.url)
        busy = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for client in busy:
            client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
            # The application reads, so the request is under way.
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"

        for _ in range(5):
            with connected(server.url) as client:
                answer = read_all(client)
                told = problem(answer)
                assert (told["status"], told["code"]) == (503, "queue_full")
                assert b"retry-after: 2\r\n" in answer
        for client in busy:
            client.close()

        eventually(lambda: answers(server.url), "there is a place again")


def answers(url: str) -> bool:
    try:
        return is_healthy(url)
    except httpx2.HTTPError:
        return False
