"""From POST to MP4, with uploads and with an avatar: a photograph and a film.

    python benchmarks/avatars.py [--film clip.mp4] [--seconds 20] [--speech 4] [--preset preview] [--repeats 3]

The whole service runs: API, Redis with every write on disk, validator, inspector, and a worker with the
shipped weights (not signing). Both ways are timed in turns, `--repeats` times, and medians printed, beside
the processor time of all processes, which a busy machine does not stretch. Without `--film` the example
portrait, moved by a slow zoom, is the film.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from benchmarks.live_api import ROOT, LiveApi, live_api
from tests.films import H264, ffmpeg

PORTRAIT = ROOT / "examples" / "portrait.jpg"
SPEECH = ROOT / "examples" / "speech.wav"
MODULES = ("worker", "worker.inspection", "worker.validation")


@dataclass(frozen=True)
class Timed:
    """One job.

    Args:
        wall_s: From the POST until its MP4 is there.
        processor_s: Of all processes meanwhile.
        stages_s: As the job tells them.
    """

    wall_s: float
    processor_s: float
    stages_s: dict[str, float]


def processor_s(processes: list[psutil.Process]) -> float:
    """Processor time of processes and of the children that they have waited for."""
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def run_job(
    client: httpx2.Client,
    processes: list[psutil.Process],
    files: dict[str, Path],
    fields: dict[str, str],
) -> Timed:
    """Post a job and wait for its end."""
    parts = {name: (path.name, path.read_bytes()) for name, path in files.items()}
    used, began = processor_s(processes), time.perf_counter()
    job = client.post("/v1/talking-face", files=parts, data=fields).raise_for_status().json()
    while job["state"] not in ("succeeded", "failed"):
        job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()
    wall_s = time.perf_counter() - began
    if job["state"] == "failed":
        sys.exit(f"the job failed: {job['error']['detail']}")
    return Timed(wall_s, processor_s(processes) - used, job["timings_s"])


def make_avatar(client: httpx2.Client, field: str, path: Path) -> tuple[str, float]:
    """Keep a picture or film; its id, and the seconds until it was prepared."""
    began = time.perf_counter()
    sent = client.post("/v1/avatars", files={field: (path.name, path.read_bytes())})
    avatar = sent.raise_for_status().json()
    while avatar["state"] == "preparing":
        time.sleep(0.1)
        avatar = client.get(f"/v1/avatars/{avatar['id']}").json()
    if avatar["state"] != "ready":
        sys.exit(f"the avatar failed: {avatar['error']['detail']}")
    return str(avatar["id"]), time.perf_counter() - began


def compare(
    client: httpx2.Client,
    processes: list[psutil.Process],
    field: str,
    path: Path,
    speech: Path,
    options: dict[str, str],
    repeats: int,
) -> None:
    """Print a table of one kind of avatar."""
    avatar_id, prepared_s = make_avatar(client, field, path)
    ways: dict[str, Callable[[], Timed]] = {
        "upload": lambda: run_job(client, processes, {field: path, "audio": speech}, options),
        "avatar": lambda: run_job(
            client, processes, {"audio": speech}, options | {"avatar_id": avatar_id}
        ),
    }
    taken: dict[str, list[Timed]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, run in ways.items():
            timed = run()
            if number:
                taken[name].append(timed)
    print(f"\n{field}: {path.name}, prepared in {prepared_s:.2f} s")
    print("| way | POST to MP4, s | processor, s | stages, s |\n| --- | --- | --- | --- |")
    for name, every in taken.items():
        wall_s = statistics.median(one.wall_s for one in every)
        used_s = statistics.median(one.processor_s for one in every)
        stages = ", ".join(
            f"{stage} {statistics.median(one.stages_s.get(stage, 0.0) for one in every):.2f}"
            for stage in every[0].stages_s
        )
        print(f"| {name} | {wall_s:.2f} | {used_s:.2f} | {stages} |")


def start(api: LiveApi, log: Path) -> list[psutil.Process]:
    """The other processes of the installation; its API is the first."""
    processes = [api.process]
    for module in MODULES:
        with log.with_name(f"{module}.log").open("wb") as stream:
            started = subprocess.Popen(
                [sys.executable, "-m", module],
                env=api.environment | {"TALKFACE_LOG_LEVEL": "INFO"},
                stderr=stream,
            )
        processes.append(psutil.Process(started.pid))
    for module in MODULES:
        while "worker_listening" not in log.with_name(f"{module}.log").read_text():
            time.sleep(0.2)
    return processes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--film", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--speech", type=float, default=4.0)
    parser.add_argument("--preset", default="preview")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--kinds", nargs="+", choices=("image", "video"), default=("image", "video")
    )
    chosen = parser.parse_args()
    with live_api(content_credentials="false", write_rate="100000/minute") as api:
        folder = Path(api.environment["TALKFACE_DATA_DIR"]).parent
        film, speech = folder / "film.mp4", folder / "speech.wav"
        length = ("-t", chosen.seconds, "-an", *H264)
        if chosen.film is None:
            zoom = "zoompan=z='1.1+0.05*sin(on/40)':d=1:fps=25:s=640x640"
            ffmpeg("-loop", 1, "-framerate", 25, "-i", PORTRAIT, "-vf", zoom, *length, film)
        else:
            ffmpeg("-i", chosen.film, *length, film)
        ffmpeg("-stream_loop", -1, "-i", SPEECH, "-t", chosen.speech, speech)
        processes = start(api, folder / "log")
        try:
            with httpx2.Client(base_url=api.url, timeout=120.0) as client:
                options = {"preset": chosen.preset}
                for field in chosen.kinds:
                    path = PORTRAIT if field == "image" else film
                    compare(client, processes, field, path, speech, options, chosen.repeats)
        finally:
            for process in processes[1:]:
                process.terminate()
            psutil.wait_procs(processes[1:], timeout=20)


if __name__ == "__main__":
    main()
