"""What provenance costs: signing a job's file, the label on a frame, reading a stranger's file.

    python benchmarks/provenance.py [--seconds 10] [--side 640] [--repeats 20]

Signing is timed as a worker sees it, over the socket of a signer process of its own, reading back
included; each figure is the median and the worst of `--repeats`. No network is used.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model.media.label import Label
from model.media.video_writer import VideoWriter
from service.provenance.authority import Authority
from service.provenance.reading import verify_file
from worker.contract.signing import Ingredient, SignerClient, SignerGoneError, SigningRequest

REQUEST = SigningRequest(
    model_name="benchmark",
    weights_sha256="00" * 32,
    ingredients=tuple(
        Ingredient(title=title, format=kind, sha256="11" * 32)
        for title, kind in (("voice", "audio/wav"), ("picture", "image/jpeg"))
    ),
)


def timed(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and worst of some runs, in milliseconds."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken), max(taken)


def processor_s(pid: int) -> float:
    """Processor time that a process has used, which a busy machine does not stretch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_film(path: Path, side: int, seconds: float) -> None:
    """Noise that moves, so that the file has the size of a real one."""
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 48, (side, side, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, side, dtype=np.uint8)[None, :, None]
    with VideoWriter(path, width=side, height=side) as writer:
        for number in range(round(25 * seconds)):
            writer.write(np.roll(grain, number, axis=1) + np.roll(ramp, 3 * number, axis=1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, signed, keys = folder / "film.mp4", folder / "signed.mp4", folder / "keys"
        write_film(film, options.side, options.seconds)
        signer = SignerClient(folder / "signer.sock")
        environment = {
            **os.environ,
            "TALKFACE_SIGNING_DIR": str(keys),
            "TALKFACE_SIGNER_SOCKET": str(folder / "signer.sock"),
            "TALKFACE_LOG_LEVEL": "ERROR",
        }
        process = subprocess.Popen([sys.executable, "-m", "service.provenance"], env=environment)
        try:
            while True:
                try:
                    signer.trust()
                    break
                except SignerGoneError:
                    time.sleep(0.05)
            before_s = processor_s(process.pid)
            sign_ms = timed(lambda: signer.sign(REQUEST, film, signed), options.repeats)
            cpu_ms = 1e3 * (processor_s(process.pid) - before_s) / (options.repeats + 1)
        finally:
            process.terminate()
            process.wait()
        trust = Authority(keys).trust()
        assert verify_file(signed, trust, limit_bytes=2**40).verdict == "ours"
        read_ms = timed(lambda: verify_file(signed, trust, limit_bytes=2**40), options.repeats)
        sizes = film.stat().st_size, signed.stat().st_size

    frame = np.full((options.side, options.side, 3), 128, np.uint8)
    label = Label(options.side, options.side)
    label_ms = timed(lambda: label.apply(frame, 0), 50 * options.repeats)
    both_ms = timed(lambda: label.apply(frame.copy(), 0), 50 * options.repeats)

    print(f"file: {options.seconds:g} s at {options.side} px, {sizes[0] / 2**20:.1f} MiB")
    print(f"manifest: {sizes[1] - sizes[0]} bytes")
    print(f"signer's processor time: {cpu_ms:.1f} ms a job")
    print(f"{'':24} median      worst")
    for what, (median, worst) in {
        "sign and read back, ms": sign_ms,
        "verify in a child, ms": read_ms,
        "label, ms a frame": label_ms,
        "with the writer's copy": both_ms,
    }.items():
        print(f"{what:24} {median:8.3f}  {worst:8.3f}")


if __name__ == "__main__":
    main()
