"""Peak memory and CPU time of a job by its length: does ten minutes of a photograph need more than ten seconds?

    python benchmarks/memory.py [--seconds 10 600] [--preset preview] [--motion natural]

Every length is rendered by a process of its own, `talkface generate`, so that no peak is another's. The
peak is the kernel's: of the process, ffmpeg not included. CPU time is that of everything, start, encoder and
signature included. The voice says its words again and again.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
# wait4 would add up ffmpeg's memory; the process reports its own
CHILD = """
import resource, sys
from talkface.__main__ import main
sys.argv = ["talkface", *sys.argv[1:]]
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def write_voice(speech: Path, seconds: float, path: Path) -> None:
    """The sound `speech`, repeated to `seconds`."""
    sound, rate = soundfile.read(speech, dtype="float32")
    count = round(seconds * rate)
    soundfile.write(path, np.resize(sound, count), rate)


def measure(arguments: argparse.Namespace, seconds: float) -> tuple[float, float]:
    """Peak of one render, MiB, and its CPU time, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        voice, video = Path(folder) / "voice.wav", Path(folder) / "video.mp4"
        write_voice(arguments.speech, seconds, voice)
        command = [sys.executable, "-c", CHILD, "generate", "--image", str(arguments.image)]
        command += ["--audio", str(voice), "--output", str(video), "--preset", arguments.preset]
        command += ["--motion", arguments.motion]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        if done.returncode:
            raise SystemExit(done.stderr)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("peak "))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(line.split()[1]) / 1024, spent_s


def main() -> None:
    """Print a row for each length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 600.0])
    parser.add_argument("--preset", default="preview")
    parser.add_argument("--motion", default="natural", help="still, subtle, natural or 0 to 1.5")
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "portrait.jpg")
    parser.add_argument("--speech", type=Path, default=ROOT / "examples" / "speech.wav")
    arguments = parser.parse_args()
    first = None
    print(f"{'seconds':>9} {'peak, MiB':>10} {'/ first':>8} {'CPU, s':>8} {'a second':>9}")
    for seconds in arguments.seconds:
        peak, spent_s = measure(arguments, seconds)
        first = first or peak
        costs = f"{spent_s:>8.1f} {spent_s / seconds:>9.2f}"
        print(f"{seconds:>9.0f} {peak:>10.0f} {peak / first:>8.3f} {costs}", flush=True)


if __name__ == "__main__":
    main()
