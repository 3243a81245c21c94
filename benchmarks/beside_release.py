"""Milliseconds a frame beside another checkout of talkface, by turns in one run.

    git worktree add --detach ../release e27d82b
    python benchmarks/beside_release.py ../release [--seconds 4] [--repeats 3] [--json FILE]

Each checkout renders in a process of its own, which stays warm; the cases take turns, so that whatever else
the machine does falls on both, and the best of each counts. Ratios are against the release's own presets: its
`balanced` for presets that draw, its `preview` for `preview`. CPU time is that of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MOTIONS = ("still", "natural")
# runs in either checkout: only what both have
CHILD = """
import json, sys, time
import cv2, numpy as np, soundfile
from model.pipelines.talking_face import load_pipeline
try:
    from model.pipelines.options import RenderOptions
except ImportError:
    RenderOptions = None
image, speech, length_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
picture = np.ascontiguousarray(cv2.imread(image)[..., ::-1])
sound, rate = soundfile.read(speech, dtype="float32")
times = np.arange(int(length_s * 16000)) / 16000
sound = np.interp(times % (len(sound) / rate), np.arange(len(sound)) / rate, sound).astype(np.float32)
pipeline = load_pipeline()
pipeline.warm_up()
print("ready", pipeline.torch_dtype_name, file=sys.stderr)
plans = {}
for line in sys.stdin:
    preset, motion = key = tuple(line.split())
    if key not in plans:
        if hasattr(RenderOptions, "blink"):
            options = (RenderOptions(preset=preset, motion=motion, blink=motion == "natural"),)
            plans[key] = pipeline.prepare(picture, sound, *options)
        else:
            plans[key] = pipeline.prepare(picture, sound, preset=preset)
    plan = plans[key]
    wall, cpu = time.perf_counter(), time.process_time()
    for frames in pipeline.render(plan):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps([1e3 * wall / plan.num_frames, 1e3 * cpu / plan.num_frames]), flush=True)
"""


class Checkout:
    """A warm process of one checkout."""

    def __init__(self, root: Path, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-c", CHILD, str(arguments.image), str(arguments.speech)]
        environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
        self._process = subprocess.Popen(
            [*command, str(arguments.seconds)],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def milliseconds(self, preset: str, motion: str) -> tuple[float, float]:
        """Wall and CPU time of one video, a frame."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{preset} {motion}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {process.args[-1]} died; run its checkout by itself")
        wall, cpu = json.loads(line)
        return wall, cpu

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Best wall and CPU times of every case, milliseconds a frame, keyed "checkout preset motion"."""
    checkouts = {
        "release": Checkout(arguments.release, arguments),
        "here": Checkout(ROOT, arguments),
    }
    cases = [("release", preset, "still") for preset in ("preview", "balanced")]
    cases += [("here", p, m) for p in arguments.presets for m in MOTIONS]
    best: dict[str, Any] = {}
    for number in range(arguments.repeats + 1):
        for name, preset, motion in cases:
            spent = checkouts[name].milliseconds(preset, motion)
            if number:  # the first round prepares
                key = f"{name} {preset} {motion}"
                before = best.get(key, spent)
                best[key] = [min(pair) for pair in zip(before, spent, strict=True)]
    for checkout in checkouts.values():
        checkout.close()
    return best


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path, help="the other checkout")
    parser.add_argument("--presets", nargs="+", default=["preview", "fast", "balanced", "quality"])
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "portrait.jpg")
    parser.add_argument("--speech", type=Path, default=ROOT / "examples" / "speech.wav")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    best = compare(arguments)
    print(
        f"{'checkout':>9} {'preset':>9} {'motion':>8} {'ms/frame':>9} {'x':>6} {'CPU ms':>8} {'x':>6}"
    )
    for key, (wall, cpu) in best.items():
        name, preset, motion = key.split()
        base_wall, base_cpu = best[
            f"release {'preview' if preset == 'preview' else 'balanced'} still"
        ]
        line = f"{name:>9} {preset:>9} {motion:>8} {wall:>9.1f} {wall / base_wall:>6.2f}"
        print(f"{line} {cpu:>8.1f} {cpu / base_cpu:>6.2f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(best, indent=2) + "\n")


if __name__ == "__main__":
    main()
