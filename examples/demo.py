"""What `make demo` runs: start a server, send it the example, save the MP4, stop the server.

    python examples/demo.py [--image I] [--audio A] [--output out/demo.mp4] [--preset balanced]

The server is started as a user would start it (`talkface up` on a free port, in a temporary folder)
and is talked to over HTTP alone. Whatever happens, an error, Ctrl-C or a SIGTERM, nothing of it is
left running.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from model.media.contact_sheet import write_contact_sheet
from model.media.probe import probe
from model.media.video_reader import read_frames

EXAMPLES = Path(__file__).parent
START_LIMIT_S = 180.0
STOP_LIMIT_S = 30.0
POLL_S = 0.5
SHEET_FRAMES, SHEET_COLUMNS = 12, 4
TERMINAL = {"succeeded", "failed", "cancelled"}
# Settings of another installation, which this one must not touch; all others are passed on.
FOREIGN = {
    "TALKFACE_REDIS_URL",
    "TALKFACE_PUBLIC_URL",
    "TALKFACE_SIGNER_SOCKET",
    "TALKFACE_SIGNING_DIR",
}

console = Console(soft_wrap=True)


class DemoError(Exception):
    """The demonstration cannot go on; the message says why."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port


@contextmanager
def running_server(port: int, data_dir: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `talkface up` in a process group of its own, and end all of that group on the way out."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    command = [sys.executable, "-m", "talkface", "up", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        # It stops what it started on SIGTERM; what does not obey in time is killed with its group.
        server.terminate()
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            console.print("[yellow]the server did not stop in time and is killed")
        finally:
            with suppress(ProcessLookupError):  # the group is empty: everything had stopped
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_until_ready(client: httpx2.Client, server: subprocess.Popen[bytes]) -> None:
    """Wait for /readyz, which answers 200 when a warm worker listens.

    Raises:
        DemoError: The server ended, or is not ready in `START_LIMIT_S`.
    """
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"the server ended with exit code {server.returncode} while it started")
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass  # not listening yet
        time.sleep(POLL_S)
    raise DemoError(f"the server was not ready within {START_LIMIT_S:.0f} s")


def submit(client: httpx2.Client, image: Path, audio: Path, preset: str) -> dict[str, Any]:
    """Send the portrait and the voice; the answer is the accepted job.

    Raises:
        DemoError: The server refused them.
    """
    with image.open("rb") as picture, audio.open("rb") as sound:
        files = {"image": (image.name, picture), "audio": (audio.name, sound)}
        answer = client.post("/v1/talking-face", files=files, data={"preset": preset})
    if answer.status_code != 202:
        raise DemoError(f"POST /v1/talking-face answered {answer.status_code}: {answer.text}")
    job: dict[str, Any] = answer.json()
    return job


def follow(client: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Poll the job until it ends, with a progress bar; the answer is its last state.

    Raises:
        DemoError: It did not succeed.
    """
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console) as display:
        bar = display.add_task(job["state"], total=1.0)
        while job["state"] not in TERMINAL:
            time.sleep(POLL_S)
            answer = client.get(job["links"]["self"])
            answer.raise_for_status()
            job = answer.json()
            display.update(
                bar, description=job["stage"] or job["state"], completed=job["progress"] or 0.0
            )
        display.update(bar, description=job["state"])
    if job["state"] != "succeeded":
        raise DemoError(f"the job ended as {job['state']}: {job['error']}")
    return job


def write_sheet(video: Path, sheet: Path, num_frames: int) -> None:
    """Save `SHEET_FRAMES` frames, evenly spread over the video, as one picture."""
    wanted = {round(i * (num_frames - 1) / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)}
    frames = [f for index, f in enumerate(read_frames(video, fps=None)) if index in wanted]
    write_contact_sheet(frames, sheet, SHEET_COLUMNS)


def report(video: Path, job: dict[str, Any], ready_s: float, total_s: float) -> None:
    """Print what was made and how long each part of it took."""
    info = probe(video)
    result = job["result"]
    console.print(
        f"{video}: {info.width}x{info.height}, {info.video_codec} {info.pix_fmt}, "
        f"{info.fps:g} fps, {info.num_frames} frames, {info.duration_s:.2f} s; {info.audio_codec}, "
        f"|video - audio| {abs(info.duration_s - info.audio_duration_s) * 1000:.0f} ms"
    )
    console.print(
        f"model: {result['model_name']} on {result['device']}, {result['dtype']}, "
        f"attention by {result['attention_backend']}"
    )
    console.print(f"server ready after {ready_s:.1f} s")
    for stage, seconds in job["timings_s"].items():
        console.print(f"  {stage:<12} {seconds:6.2f} s")
    console.print(f"from the first request to the MP4: {total_s:.1f} s")


def demonstrate(arguments: argparse.Namespace, data_dir: Path, log: Path) -> None:
    """Run the whole road once."""
    output: Path = arguments.output
    port = free_port()
    started = time.monotonic()
    with (
        running_server(port, data_dir, log) as server,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client,
    ):
        console.print(f"talkface up on port {port}; its log: {log}")
        wait_until_ready(client, server)
        ready_s = time.monotonic() - started
        posted = time.monotonic()
        job = follow(client, submit(client, arguments.image, arguments.audio, arguments.preset))
        answer = client.get(job["links"]["content"])
        answer.raise_for_status()
        output.write_bytes(answer.content)
        total_s = time.monotonic() - posted
    sheet = output.with_suffix(".png")
    write_sheet(output, sheet, job["result"]["num_frames"])
    report(output, job, ready_s, total_s)
    console.print(f"contact sheet: {sheet}")


def _exit_on(signum: int, _frame: FrameType | None) -> None:
    """Turn a signal into an orderly exit, so that the `finally` blocks run."""
    raise SystemExit(128 + signum)


def main() -> int:
    """Command line; 0 when the video was made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, default=EXAMPLES / "portrait.jpg")
    parser.add_argument("--audio", type=Path, default=EXAMPLES / "speech.wav")
    parser.add_argument("--output", type=Path, default=Path("out/demo.mp4"))
    parser.add_argument("--preset", default="balanced", help="preview, fast, balanced or quality")
    arguments = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _exit_on)
    # A shell that runs this in the background has it ignore SIGINT; whoever sends one means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    log = arguments.output.with_suffix(".log")
    try:
        with tempfile.TemporaryDirectory(prefix="talkface-demo-") as data_dir:
            demonstrate(arguments, Path(data_dir), log)
    except (DemoError, httpx2.HTTPError) as error:
        console.print(f"[red]demo failed:[/red] {error}", highlight=False)
        console.print(f"the last lines of {log}:\n" + "\n".join(log.read_text().splitlines()[-25:]))
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
