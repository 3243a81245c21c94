"""What the API bears, on loopback, against a real Redis with `appendfsync always`.

    python benchmarks/load.py [--uploads 200] [--reads 5000] [--streams 200] [--flat 10000]

Four measurements, each bounded in count and time: uploads of 1 MB, 4 in parallel; status reads;
clients that follow a job's events; memory of the API process over many requests. Nothing renders,
so the figures are the API's alone. `cpu_ms_each` means something on a busy machine too. Everything is
deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_api import live_api
from worker.contract.ledger import Ledger
from worker.contract.messages import FrameCount, JobFailure, Stage

# Bounds of one measurement, in seconds.
LONGEST_S = 240.0


def picture_of_1_mb(path: Path) -> bytes:
    """A JPEG of about 1 MB: a gradient with grain, 1280 x 1280."""
    grain = Image.frombytes("RGB", (1280, 1280), random.Random(0).randbytes(1280 * 1280 * 3))
    smooth = Image.linear_gradient("L").resize((1280, 1280)).convert("RGB")
    Image.blend(smooth, grain, 0.35).save(path, "JPEG", quality=93)
    return path.read_bytes()


def speech(path: Path) -> bytes:
    """3 s of a quiet tone, 16 kHz mono."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(96_000))
    return path.read_bytes()


def cpu_s(api: psutil.Process) -> float:
    """Processor seconds that the API and its ended children used."""
    used = api.cpu_times()
    return used.user + used.system + used.children_user + used.children_system


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def in_parallel(count: int, workers: int, call: Callable[[int], Awaitable[None]]) -> float:
    """Run `call` `count` times, `workers` at a time; wall time in seconds."""
    numbers = iter(range(count))
    until = time.monotonic() + LONGEST_S

    async def work() -> None:
        for number in numbers:
            if time.monotonic() > until:
                return
            await call(number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    return time.perf_counter() - began


async def measure_uploads(
    client: httpx2.AsyncClient, api: psutil.Process, files: Any, count: int
) -> dict[str, Any]:
    """POST with 1 MB, 4 in parallel; of it the part after decoding, from the API's own metrics."""
    took: list[float] = []

    async def upload(_: int) -> None:
        began = time.perf_counter()
        response = await client.post("/v1/talking-face", files=files)
        took.append(time.perf_counter() - began)
        assert response.status_code == 202, response.text
        await client.delete(response.json()["links"]["self"])

    for number in range(4):
        await upload(number)
    took.clear()
    used_s = cpu_s(api)
    wall_s = await in_parallel(count, 4, upload)
    return {
        "cpu_ms_each": round(1000 * (cpu_s(api) - used_s) / len(took), 1),
        "uploads": len(took),
        "uploads_per_s": round(len(took) / wall_s, 1),
        "p50_ms": round(1000 * statistics.median(took)),
        "p99_ms": round(1000 * percentile(took, 0.99)),
    }


async def measure_reads(
    client: httpx2.AsyncClient, api: psutil.Process, job: str, count: int
) -> dict[str, Any]:
    """GET of a job's status, 16 in parallel."""
    took: list[float] = []

    async def read(_: int) -> None:
        began = time.perf_counter()
        response = await client.get(job)
        took.append(time.perf_counter() - began)
        assert response.status_code == 200

    used_s = cpu_s(api)
    wall_s = await in_parallel(count, 16, read)
    return {
        "cpu_ms_each": round(1000 * (cpu_s(api) - used_s) / len(took), 2),
        "reads": len(took),
        "reads_per_s": round(len(took) / wall_s),
        "p50_ms": round(1000 * statistics.median(took), 1),
        "p99_ms": round(1000 * percentile(took, 0.99), 1),
    }


async def measure_streams(
    client: httpx2.AsyncClient, ledger: Ledger, job_id: str, count: int
) -> dict[str, Any]:
    """Clients that follow one job; how late the last of them hears of an event."""
    heard: dict[str, list[float]] = {}
    ready = asyncio.Semaphore(0)
    ended = 0

    async def follow() -> None:
        nonlocal ended
        async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            async for line in response.aiter_lines():
                if line.startswith('data: {"state":"queued"'):
                    ready.release()
                elif line.startswith("data: ") and '"object":"job"' in line:
                    ended += 1
                    return
                elif line.startswith("data: "):
                    frames = json.loads(line[6:])["frames"]
                    if frames:
                        heard.setdefault(str(frames["done"]), []).append(time.perf_counter())

    followers = [asyncio.create_task(follow()) for _ in range(count)]
    for _ in followers:
        await ready.acquire()
    told: dict[str, float] = {}
    await asyncio.to_thread(ledger.claim, job_id, 1, "t", worker="load", lease_s=60)
    for done in range(1, 41):
        told[str(done)] = time.perf_counter()
        frames = FrameCount(done=done, total=40)
        await asyncio.to_thread(ledger.report, job_id, "t", stage=Stage.GENERATING, frames=frames)
        await asyncio.sleep(0.25)
    failure = JobFailure.model_validate({"code": "model_error", "detail": "The load test ends."})
    await asyncio.to_thread(ledger.fail, job_id, "t", failure)
    await asyncio.wait_for(asyncio.gather(*followers), 60)
    late = [at - told[done] for done, times in heard.items() for at in times]
    return {
        "clients": count,
        "ended": ended,
        "events": len(late),
        "missed": 40 * count - len(late),
        "late_p50_ms": round(1000 * statistics.median(late)),
        "late_p99_ms": round(1000 * percentile(late, 0.99)),
    }


async def measure_memory(
    client: httpx2.AsyncClient, api: psutil.Process, job: str, files: Any, count: int
) -> dict[str, Any]:
    """Resident memory of the API in MiB at each tenth of the way; every 100th request uploads."""
    points: list[float] = []

    async def one(number: int) -> None:
        if number % 100 == 0:
            response = await client.post("/v1/talking-face", files=files)
            await client.delete(response.json()["links"]["self"])
        else:
            await client.get(job if number % 3 else "/v1/jobs")
        if number % (count // 10) == 0:
            points.append(round(api.memory_info().rss / 2**20, 1))

    await in_parallel(count, 8, one)
    points.append(round(api.memory_info().rss / 2**20, 1))
    return {"requests": count, "rss_mib": points}


def after_decoding(text: str) -> dict[str, Any]:
    """How many uploads needed at most so long for all but decoding, from /metrics."""
    counts = {
        line.split('le="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("tf_accept_seconds_bucket") and 'step="store"' in line
    }
    total = counts["+Inf"]
    shares = {f"<= {bound} s": round(n / total, 4) for bound, n in counts.items()}
    return {"uploads": total, **{name: share for name, share in shares.items() if "0.0" in name}}


async def run(args: argparse.Namespace, url: str, ledger: Ledger, api: psutil.Process) -> None:
    """All measurements, one line of JSON each."""
    with tempfile.TemporaryDirectory() as folder:
        image = picture_of_1_mb(Path(folder) / "p.jpg")
        voice = speech(Path(folder) / "v.wav")
    files = {"image": ("p.jpg", image), "audio": ("v.wav", voice)}
    limits = httpx2.Limits(max_connections=args.streams + 50)
    async with httpx2.AsyncClient(base_url=url, timeout=120.0, limits=limits) as client:
        print(json.dumps({"picture_bytes": len(image), "cpus": os.cpu_count()}), flush=True)
        uploads = await measure_uploads(client, api, files, args.uploads)
        print(json.dumps({"upload": uploads}), flush=True)
        store = after_decoding((await client.get("/metrics")).text)
        print(json.dumps({"after decoding": store}), flush=True)
        job = (await client.post("/v1/talking-face", files=files)).json()
        path = job["links"]["self"]
        reads = await measure_reads(client, api, path, args.reads)
        print(json.dumps({"status": reads}), flush=True)
        streams = await measure_streams(client, ledger, job["id"], args.streams)
        print(json.dumps({"events": streams}), flush=True)
        memory = await measure_memory(client, api, path, files, args.flat)
        print(json.dumps({"memory": memory}), flush=True)


def main() -> None:
    """Start Redis and the API, measure, stop both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--reads", type=int, default=5000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--flat", type=int, default=10_000)
    args = parser.parse_args()
    with live_api() as api, api.redis.client() as client:
        asyncio.run(run(args, api.url, Ledger(client), api.process))


if __name__ == "__main__":
    main()
