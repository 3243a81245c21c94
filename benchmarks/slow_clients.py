"""What callers notice while slow clients hold on to the API, on loopback.

    python benchmarks/slow_clients.py [--seconds 600] [--half-open 1000] [--streams 200] [--uploads 4]

Slow clients, in a process of their own: requests that are sent half and opened again when the server
closes them, streams of one job's events, uploads at 64 kB/s. Meanwhile a second process asks for
/healthz ten times a second, and the memory of the API is read once a second. One line of JSON tells
the latency and the memory. Everything is deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_api import LiveApi, live_api
from benchmarks.load import percentile
from tests.integration.conftest import eventually
from tests.uploads import picture, tone

PROBE_EVERY_S = 0.1
UPLOAD_BYTES_PER_S = 64_000
# What is opened at the same moment; the rest follows after a pause.
OPENED_TOGETHER = 50
HALF = b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Half: "


async def keep_half_open(port: int, counts: Counter[str]) -> None:
    """Send half a request, wait until the server closes it, and begin again."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HALF)
            answer = await reader.read()
            counts["told 408" if b" 408 " in answer else "closed without a word"] += 1
            writer.close()
        except OSError:
            counts["refused or reset"] += 1
            await asyncio.sleep(0.5)


async def follow(port: int, job_id: str, counts: Counter[str]) -> None:
    """Read the events of a job."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    while await reader.read(65_536):
        counts["pieces of streams"] += 1
    counts["streams that ended"] += 1


async def upload_slowly(port: int, counts: Counter[str]) -> None:
    """Send forms of 20 MB, ten pieces a second, one after the other."""
    size = 20_000_000
    head = (
        "POST /v1/talking-face HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {size}\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    ).encode()
    piece = bytes(UPLOAD_BYTES_PER_S // 10)
    # It begins as a WAV does: what is no sound would be refused with its first bytes.
    head += tone(0.01)
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        try:
            for _ in range(size // len(piece)):
                writer.write(piece)
                await writer.drain()
                counts["kB uploaded"] += len(piece) // 1000
                await asyncio.sleep(0.1)
        except OSError:
            counts["uploads that broke"] += 1
        writer.close()


def be_slow(
    port: int, job_id: str, args: argparse.Namespace, ready: Connection, done: Connection
) -> None:
    """The slow clients' process: until `done` says so."""

    async def run() -> Counter[str]:
        counts: Counter[str] = Counter()
        tasks = [asyncio.create_task(follow(port, job_id, counts)) for _ in range(args.streams)]
        tasks += [asyncio.create_task(upload_slowly(port, counts)) for _ in range(args.uploads)]
        for number in range(args.half_open):
            tasks.append(asyncio.create_task(keep_half_open(port, counts)))
            if number % OPENED_TOGETHER == 0:
                await asyncio.sleep(0.1)
        ready.send("open")
        await asyncio.to_thread(done.poll, None)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        counts["clients that failed"] = sum(
            isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError)
            for error in ended
        )
        return counts

    ready.send(dict(asyncio.run(run())))


def probe(port: int, seconds: float, result: Connection) -> None:
    """The probe's process: /healthz on a connection of its own each time, as a stranger would."""
    took_s: list[float] = []
    num_failed = 0
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            client.request("GET", "/healthz")
            num_failed += client.getresponse().status != 200
        except (OSError, http.client.HTTPException):
            num_failed += 1
        finally:
            client.close()
        took_s.append(time.monotonic() - began)
        time.sleep(max(0.0, began + PROBE_EVERY_S - time.monotonic()))
    result.send({"took_s": took_s, "failed": num_failed})


def measure(args: argparse.Namespace, api: LiveApi, job_id: str) -> dict[str, Any]:
    """Start both processes, read the API's memory meanwhile, and put the figures together."""
    spawn = multiprocessing.get_context("spawn")
    port = int(api.url.rpartition(":")[2])
    ready, ready_there = spawn.Pipe()
    done_there, done = spawn.Pipe(duplex=False)
    result, result_there = spawn.Pipe(duplex=False)
    slow = spawn.Process(target=be_slow, args=(port, job_id, args, ready_there, done_there))
    prober = spawn.Process(target=probe, args=(port, args.seconds, result_there))
    slow.start()
    try:
        assert ready.poll(120) and ready.recv() == "open"
        used_s = sum(api.process.cpu_times()[:2])
        prober.start()
        rss_mib: list[float] = []
        while not result.poll(1.0):
            rss_mib.append(round(api.process.memory_info().rss / 2**20, 1))
        probed = result.recv()
        cpu_share = (sum(api.process.cpu_times()[:2]) - used_s) / args.seconds
        num_open = api.process.num_fds()
        done.send("stop")
        counts = ready.recv() if ready.poll(60) else {}
    finally:
        for process in (slow, prober):
            with contextlib.suppress(ValueError, AttributeError, AssertionError):
                process.kill()
                process.join()
    took_s = probed["took_s"]
    return {
        "cpus": os.cpu_count(),
        "seconds": args.seconds,
        "clients": {name: getattr(args, name) for name in ("half_open", "streams", "uploads")},
        "healthz": {
            "asked": len(took_s),
            "failed": probed["failed"],
            "p50_ms": round(1000 * statistics.median(took_s), 1),
            "p99_ms": round(1000 * percentile(took_s, 0.99), 1),
            "max_ms": round(1000 * max(took_s), 1),
        },
        "rss_mib": {"start": rss_mib[0], "end": rss_mib[-1], "max": max(rss_mib)},
        "api_cores": round(cpu_share, 3),
        "api_descriptors": num_open,
        "slow_clients": counts,
    }


def main() -> None:
    """Start Redis and the API, measure, stop both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--half-open", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--uploads", type=int, default=4)
    args = parser.parse_args()
    # Each client is a socket of the clients' process, which inherits this limit.
    soft, hard = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    psutil.Process().rlimit(psutil.RLIMIT_NOFILE, (max(soft, hard), hard))
    with live_api() as api:
        files = {"audio": ("a.wav", tone(0.5)), "image": ("i.jpg", picture())}
        with httpx2.Client(base_url=api.url, timeout=60.0) as client:
            eventually(lambda: client.get("/healthz").status_code == 200, "the API answers")
            answer = client.post("/v1/talking-face", files=files)
        print(json.dumps(measure(args, api, answer.json()["id"])), flush=True)


if __name__ == "__main__":
    main()
