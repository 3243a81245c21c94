"""Broken and odd inputs against a live service: nothing breaks, nothing stays behind.

`make test` sends a part of the corpus, `make corpus` (CORPUS=full) all of it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.corpus.broken_inputs import Case, film, make_corpus, picture, tone
from tests.integration.conftest import RedisServer

IS_FULL = os.environ.get("CORPUS") == "full"
# Of a short run, every so-manieth case; prime, so that every way of breaking is met.
STEP = 1 if IS_FULL else 59
PATIENCE_S = 60.0
# What a broken input may be answered with, besides 202.
REFUSALS = {400, 413, 415, 422}


@dataclass(frozen=True)
class Live:
    """A running service and its folders."""

    process: psutil.Process
    client: httpx2.Client
    data_dir: Path
    temporary: Path

    def files(self) -> list[Path]:
        """Everything that lies in its folders."""
        return [path for path in self.data_dir.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("service")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    # Not below the test's folder: the name of a unix socket has at most 107 bytes.
    redis_folder = tmp_path_factory.mktemp("r")
    server = RedisServer(redis_folder)
    server.start()
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    environment |= {
        "TALKFACE_REDIS_URL": server.url,
        "TALKFACE_DATA_DIR": str(folder / "data"),
        "TALKFACE_PORT": str(port),
        "TALKFACE_MIN_FREE_BYTES": "0",
        "TALKFACE_MAX_AUDIO_S": "10",
        "TALKFACE_MAX_VIDEO_S": "6",
        "TALKFACE_PARALLEL_DECODES": "2",
        "TMPDIR": str(temporary),
    }
    with (folder / "log").open("wb") as log:
        process, validator = (
            subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=log)
            for module in ("service", "worker.validation")
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S * 2) as client:
            wait_for(client)
            yield Live(psutil.Process(process.pid), client, folder / "data", temporary)
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        assert '"unhandled_error"' not in (folder / "log").read_text()
    finally:
        for one in (process, validator):
            one.terminate()
            one.wait(PATIENCE_S)
        server.stop()


def wait_for(client: httpx2.Client) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < until, "the service does not answer"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def send(live: Live, case: Case) -> httpx2.Response:
    """The case as one part of a request that is good otherwise."""
    parts = {"image": picture(), "audio": tone()}
    if case.part == "video":
        del parts["image"]
    parts[case.part] = case.content
    # The client's name says something else than the content, and is nothing that may be used.
    name = "../../etc/passwd\x00.mp3"
    files = {part: (name, content) for part, content in parts.items()}
    return live.client.post("/v1/talking-face", files=files, data={"preset": "preview"})


def decoded(live: Live, job_id: str) -> dict[str, Any]:
    """The job when its files are decoded, or cannot be."""
    until = time.monotonic() + PATIENCE_S
    while True:
        job: dict[str, Any] = live.client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] == "failed" or job["input"]["pending"] is None:
            return job
        assert time.monotonic() < until, f"not decoded: {job}"
        time.sleep(0.05)


def judge(case: Case, answer: httpx2.Response, live: Live) -> str | None:
    """What is wrong with an answer, or None."""
    if answer.status_code == 202:
        # What only decoding can find is found after the answer.
        error = decoded(live, answer.json()["id"])["error"]
        if case.verdict == "refused" and error is None:
            return "accepted"
        return f"failed: {error['detail']}" if case.verdict == "accepted" and error else None
    if answer.status_code not in REFUSALS:
        return f"status {answer.status_code}: {answer.text[:300]}"
    if case.verdict == "accepted":
        return f"refused: {answer.json()['detail']}"
    problem = answer.json()
    if answer.headers["content-type"] != "application/problem+json" or not problem["code"]:
        return "no problem document"
    for inside in (str(live.data_dir), str(live.temporary), "Traceback", "/etc/passwd"):
        if inside in answer.text:
            return f"shows {inside}"
    return None


def test_the_corpus_is_large_and_of_every_kind(corpus: list[Case]) -> None:
    parts = Counter(case.part for case in corpus)
    verdicts = Counter(case.verdict for case in corpus)

    assert len(corpus) >= 900
    assert min(parts.values()) >= 80
    assert min(verdicts.values()) >= 50


def test_no_input_breaks_the_service_and_nothing_stays_behind(
    live: Live, corpus: list[Case]
) -> None:
    # One good job first, so that what is opened once is open.
    assert send(live, Case("good", "image", picture())).status_code == 202
    handles, threads = live.process.num_fds(), live.process.num_threads()
    chosen = corpus[::STEP]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda case: send(live, case), chosen))

    judged = zip(chosen, answers, strict=True)
    wrong = {case.name: words for case, answer in judged if (words := judge(case, answer, live))}
    assert wrong == {}
    statuses = Counter(answer.status_code for answer in answers)
    print(f"{len(chosen)} inputs: {dict(sorted(statuses.items()))}")
    accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert_nothing_stays_behind(live, accepted)
    # Threads of the pool and connections of the client come and go; a leak grows with the corpus.
    assert live.process.num_fds() <= handles + 40
    assert live.process.num_threads() <= threads + 40


def assert_nothing_stays_behind(live: Live, accepted: set[str]) -> None:
    assert live.process.children(recursive=True) == []
    assert list(live.temporary.iterdir()) == []
    assert list((live.data_dir / "scratch").iterdir()) == []
    stored = {path.name for path in (live.data_dir / "artifacts" / "inputs").iterdir()}
    assert accepted <= stored
    assert len(stored) == len(accepted) + 1  # and the good one
    names = {path.name for path in live.files() if path.parent.name != "audit"}
    known = {
        "input.png",
        "original.jpg",
        "input.mkv",
        "speech.flac",
        "sound.flac",
        "job.json",
        "validated.json",
    }
    # The validator drops uploads when it has sent their job on.
    assert names <= known | {"upload-audio", "upload-video"}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"audio": [b""]},
        {"image": [b""], "audio": [b""]},
        {"image": [b"x"] * 9, "audio": [b"x"]},
        {"image": [b"x"], "video": [b"x"], "audio": [b"x"], "driving_video": [b"x"]},
        {"audio": [b"x", b"x"], "image": [b"x"]},
        {"unknown": [b"x"], "audio": [b"x"], "image": [b"x"]},
        {"seed": [b"x"], "audio": [b"x"], "image": [b"x"]},
    ],
)
def test_a_form_that_is_none_is_refused(live: Live, parts: dict[str, list[bytes]]) -> None:
    files = [(name, ("n", content)) for name, contents in parts.items() for content in contents]

    answer = live.client.post("/v1/talking-face", files=files)

    assert answer.status_code in REFUSALS
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"a: b\r\n" * 999 + b"\r\n--b--"),
        ("multipart/form-data; boundary=" + "b" * 300, b"--b--"),
        ("multipart/form-data; boundary=b", b"\xff" * 4096),
        ("application/json", b'{"audio": 1}'),
        ("application/x-www-form-urlencoded", b"audio=x&image=y"),
        ("text/plain", b"hello"),
        ("", b"hello"),
    ],
)
def test_a_body_that_is_no_form_is_refused(live: Live, kind: str, body: bytes) -> None:
    answer = live.client.post("/v1/talking-face", content=body, headers={"Content-Type": kind})

    assert answer.status_code in REFUSALS
    assert answer.headers["content-type"] == "application/problem+json"


def test_good_input_is_still_taken_afterwards(live: Live, tmp_path: Path) -> None:
    dubbed = Case("good", "video", film(tmp_path / "film.mp4").read_bytes())

    assert send(live, dubbed).status_code == 202
