"""How long an answer takes after the last byte of an upload: long videos, and photographs beside them.

    python benchmarks/uploads.py [--seconds 600] [--size 1280x720] [--photographs 20]

A real API, a real Redis and a validator, on loopback. First one POST with a long video and a voice as
long; then four of them at the same time, and photographs one after the other meanwhile. What is told
of a video is the time from the last byte that was sent to the answer; of a photograph, its whole POST.
One line of JSON. Nothing renders.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_api import live_api
from tests.films import ffmpeg
from tests.uploads import picture

BOUNDARY = "talkface"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PIECE_BYTES = 256 * 1024


def make_media(folder: Path, seconds: float, size: str) -> tuple[Path, Path]:
    """A moving test pattern with grain, and a voice-like sound, both so long."""
    video, voice = folder / "film.mp4", folder / "voice.m4a"
    pattern = f"testsrc2=size={size}:rate=25:duration=20,noise=alls=8:allf=t"
    short = folder / "short.mp4"
    ffmpeg("-f", "lavfi", "-i", pattern, "-c:v", "libx264", "-preset", "ultrafast",
           "-b:v", "2M", "-pix_fmt", "yuv420p", short)  # fmt: skip
    ffmpeg("-stream_loop", "-1", "-i", short, "-t", str(seconds), "-c", "copy", video)
    tone = f"sine=220:duration={seconds},tremolo=f=4:d=0.9,aformat=channel_layouts=stereo"
    ffmpeg("-f", "lavfi", "-i", tone, "-c:a", "aac", "-b:a", "128k", voice)
    return video, voice


def part(name: str) -> bytes:
    """The head of one file of the form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'
    return head.encode()


async def post_video(client: httpx2.AsyncClient, video: Path, voice: Path) -> float:
    """Seconds from the last byte to the answer."""
    sent_at = 0.0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent_at
        # The voice last: nothing of it can be looked at while the video is on its way.
        for name, path in (("video", video), ("audio", voice)):
            yield part(name)
            with path.open("rb") as stream:
                while piece := stream.read(PIECE_BYTES):
                    yield piece
            yield b"\r\n"
        yield f"--{BOUNDARY}--\r\n".encode()
        sent_at = time.perf_counter()

    response = await client.post("/v1/talking-face", content=body(), headers=FORM)
    took_s = time.perf_counter() - sent_at
    assert response.status_code == 202, response.text
    await client.post(response.json()["links"]["cancel"])
    return took_s


async def post_photographs(
    client: httpx2.AsyncClient, count: int, done: asyncio.Event
) -> list[float]:
    """Seconds of each POST, until `count` are made and the videos are through."""
    with tempfile.TemporaryDirectory() as name:
        voice = Path(name) / "v.wav"
        ffmpeg("-f", "lavfi", "-i", "sine=220:duration=3", "-ar", "16000", voice)
        files = {"image": ("p", picture(size=(1280, 1280))), "audio": ("v", voice.read_bytes())}
    took = []
    while len(took) < count or not done.is_set():
        began = time.perf_counter()
        response = await client.post("/v1/talking-face", files=files)
        took.append(time.perf_counter() - began)
        assert response.status_code == 202, response.text
        await client.delete(response.json()["links"]["self"])
    return took


async def run(args: argparse.Namespace, url: str, video: Path, voice: Path) -> dict[str, Any]:
    """Both measurements."""
    async with httpx2.AsyncClient(base_url=url, timeout=300.0) as client:
        alone_s = await post_video(client, video, voice)
        done = asyncio.Event()
        photographs = asyncio.create_task(post_photographs(client, args.photographs, done))
        four = await asyncio.gather(*(post_video(client, video, voice) for _ in range(4)))
        done.set()
        beside = await photographs
    return {
        "video_s": args.seconds,
        "one_after_last_byte_s": round(alone_s, 3),
        "four_after_last_byte_s": [round(took_s, 3) for took_s in sorted(four)],
        "photographs_beside": len(beside),
        "photograph_p50_s": round(statistics.median(beside), 3),
        "photograph_max_s": round(max(beside), 3),
    }


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--photographs", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tf-up-") as name, live_api() as api:
        video, voice = make_media(Path(name), args.seconds, args.size)
        command = [sys.executable, "-m", "worker.validation"]
        validator = subprocess.Popen(command, env=api.environment)
        try:
            print(json.dumps(asyncio.run(run(args, api.url, video, voice))), flush=True)
        finally:
            validator.terminate()
            validator.wait(timeout=60)


if __name__ == "__main__":
    main()
