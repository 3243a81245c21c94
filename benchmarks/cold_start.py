"""Seconds from `talkface up` in an empty folder until the API answers and until a job would be drawn at once.

    python benchmarks/cold_start.py [--beside ../release] [--rounds 5]

Of this checkout, and by turns of another one, whose code alone is used: same Python, same packages. CPU time
is that of all processes until everything is ready. The first round reads files from the disk and is left out.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from talkface.up import says_yes  # noqa: E402

LOOK_EVERY_S = 0.01
PATIENCE_S = 120.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[bytes], port: int, path: str, began: float) -> float:
    """Seconds since `began` when `path` says 200."""
    while not says_yes("127.0.0.1", port, path):
        spent_s = time.perf_counter() - began
        if process.poll() is not None or spent_s > PATIENCE_S:
            raise SystemExit(f"no answer after {spent_s:.0f} s, exit status {process.poll()}")
        time.sleep(LOOK_EVERY_S)
    return time.perf_counter() - began


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """CPU time of a process and of all that it started, in seconds."""
    parent = psutil.Process(process.pid)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def start(root: Path) -> tuple[float, float, float]:
    """One start of a checkout: seconds to the API's first answer, to readiness, and CPU seconds."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "talkface", "up", "--port", str(port)]
        environment = {
            **{name: value for name, value in os.environ.items() if name[:9] != "TALKFACE_"},
            "PYTHONPATH": str(root.resolve()),
        }
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--data-dir", str(Path(folder, "data"))],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            api_s = wait_for(process, port, "/healthz", began)
            ready_s = wait_for(process, port, "/readyz", began)
            spent_s = cpu_s(process)
        finally:
            process.terminate()
            process.wait()
    return api_s, ready_s, spent_s


def main() -> None:
    """Print every start, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", type=Path, default=None, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    checkouts = {"here": ROOT}
    if arguments.beside is not None:
        checkouts = {"beside": arguments.beside, **checkouts}
    starts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in checkouts}
    print(f"{'checkout':>9} {'API, s':>8} {'ready, s':>9} {'CPU, s':>8}")
    for number in range(arguments.rounds + 1):
        for name, root in checkouts.items():
            told = start(root)
            print(f"{name:>9} {told[0]:>8.2f} {told[1]:>9.2f} {told[2]:>8.2f}", flush=True)
            if number:
                starts[name].append(told)
    print("median")
    for name, told_all in starts.items():
        api_s, ready_s, spent_s = map(median, zip(*told_all, strict=True))
        print(f"{name:>9} {api_s:>8.2f} {ready_s:>9.2f} {spent_s:>8.2f}")


if __name__ == "__main__":
    main()
