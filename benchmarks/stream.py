"""How soon a video is seen that is watched while it is drawn, and what that costs.

    python benchmarks/stream.py [--seconds 60] [--preset fast] [--runs 3] [--whole]

A real service on loopback: Redis, API, one warm worker with the model. Of each run: the moment when the
worker took the job, the stages that followed, and when so much had come that ffmpeg decodes a first frame of
it; then the job is cancelled, or with --whole watched to its end. Last, the encoders without a model:
what a frame costs the file's, and the stream's beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_api import ROOT, LiveApi, live_api
from model.media.ffmpeg import ffmpeg_path
from model.media.video_writer import LiveOutput, VideoWriter
from worker.contract.presence import Presence, ProcessKind

EXAMPLES = ROOT / "examples"


def long_speech(path: Path, seconds: float) -> bytes:
    """The example's voice, again and again."""
    with wave.open(str(EXAMPLES / "speech.wav")) as source:
        once = source.readframes(source.getnframes())
        size = (
            round(seconds * source.getframerate()) * source.getsampwidth() * source.getnchannels()
        )
        with wave.open(str(path), "wb") as out:
            out.setparams(source.getparams())
            out.writeframes((once * (size // len(once) + 1))[:size])
    return path.read_bytes()


def is_playable(content: bytes) -> bool:
    """Whether ffmpeg decodes a first frame of the beginning of a film."""
    command = [
        ffmpeg_path(),
        "-v",
        "error",
        "-i",
        "pipe:0",
        "-frames:v",
        "1",
        "-f",
        "framecrc",
        "-",
    ]
    ended = subprocess.run(command, input=content, capture_output=True, check=False)
    return ended.returncode == 0 and any(
        not line.startswith(b"#") for line in ended.stdout.splitlines()
    )


@contextmanager
def warm_worker(api: LiveApi) -> Iterator[None]:
    """A worker with the model, until it listens."""
    environment = {**api.environment, "TALKFACE_CONTENT_CREDENTIALS": "false"}
    process = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, cwd=ROOT)
    try:
        with api.redis.client() as redis:
            presence = Presence(redis)
            while presence.count(ProcessKind.WORKER) == 0:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def follow(url: str, job_id: str, told: dict[str, float]) -> None:
    """When the job was taken and what its stages were, by its events; Unix seconds."""
    with (
        httpx2.Client(base_url=url, timeout=90.0) as http,
        http.stream("GET", f"/v1/jobs/{job_id}/events") as answer,
    ):
        for line in answer.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line[6:])
                if event.get("state") == "running":
                    told.setdefault(f"stage {event['stage']}", time.time())
                    if (event.get("frames") or {}).get("done"):
                        told.setdefault("first batch", time.time())


def measure(http: httpx2.Client, voice: bytes, preset: str, *, is_whole: bool) -> dict[str, float]:
    """Seconds from the moment when a worker took the job."""
    files = {
        "image": ("portrait.jpg", (EXAMPLES / "portrait.jpg").read_bytes()),
        "audio": ("speech.wav", voice),
    }
    job: dict[str, Any] = http.post("/v1/talking-face", files=files, data={"preset": preset}).json()
    told: dict[str, float] = {}
    follower = threading.Thread(target=follow, args=(str(http.base_url), job["id"], told))
    follower.start()
    seen, first_byte = b"", 0.0
    with http.stream("GET", f"/v1/jobs/{job['id']}/stream") as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            seen, came = seen + piece, time.time()
            first_byte = first_byte or came
            # What the judge needs for its own start is not the stream's.
            if "first picture" not in told and is_playable(seen):
                told["first picture"] = came
                if not is_whole:
                    break
    told["first byte"], told["last byte"] = first_byte, time.time()
    # Nothing of the kind is there to be cancelled where the whole video was watched.
    http.post(f"/v1/jobs/{job['id']}/cancel")
    follower.join()
    taken = told["stage validating"]
    return {name: round(at - taken, 2) for name, at in sorted(told.items(), key=lambda x: x[1])}


def encoding_ms(count: int = 250) -> dict[str, float]:
    """CPU milliseconds a frame of the file's encoder alone, and with the stream's beside it."""
    picture = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"))
    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, live in (("file", None), ("file and stream", LiveOutput(lambda _: None, count))):
            before = os.times()
            with VideoWriter(
                Path(folder, "film.mp4"),
                width=picture.shape[1],
                height=picture.shape[0],
                sound=EXAMPLES / "speech.wav",
                live=live,
            ) as writer:
                for index in range(count):
                    frame = np.roll(picture, int(3 * np.sin(index / 5)), axis=1)
                    writer.write(frame)
            after = os.times()
            ms = 1000 * (after.children_user + after.children_system)
            ms -= 1000 * (before.children_user + before.children_system)
            spent[name] = round(ms / count, 2)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--whole", action="store_true", help="Watch to the end.")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory() as folder,
        live_api(log_level="ERROR") as api,
        warm_worker(api),
    ):
        voice = long_speech(Path(folder, "speech.wav"), args.seconds)
        with httpx2.Client(base_url=api.url, timeout=90.0) as http:
            runs = [
                measure(http, voice, args.preset, is_whole=args.whole) for _ in range(args.runs)
            ]
    for run in runs:
        print("seconds since the job was taken:", run)
    first = statistics.median(run["first picture"] for run in runs)
    print(f"first picture of {args.seconds:g} s, {args.preset}: median {first:.2f} s")
    print("CPU ms a frame of the encoders:", encoding_ms())


if __name__ == "__main__":
    main()
