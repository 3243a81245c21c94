"""What the watermark costs: milliseconds of one core to mark a frame, and to look for a mark.

python benchmarks/watermark.py --sizes 640x640 1280x720

CPU time of one thread, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from model.watermark.detector import Trace, detect
from model.watermark.embedder import WatermarkEmbedder

KEY = bytes(range(32))


def least_ms(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Least and median time of a call, after a first one."""
    work()
    times_ms = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times_ms.append(1000 * (time.process_time() - started))
    return min(times_ms), float(np.median(times_ms))


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["640x360", "640x640", "1280x720"])
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print("size, mark a frame: least and median ms, look for a mark: least and median ms")
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        frame = cv2.GaussianBlur(noise, (0, 0), 2)
        embedder = WatermarkEmbedder(KEY, bytes(8), width=width, height=height)
        marking = least_ms(lambda: embedder.apply(frame.copy()), arguments.repeats)  # noqa: B023
        looking = least_ms(lambda: detect(Trace.of([frame]), KEY), 3)  # noqa: B023
        print(size, *(f"{value:.2f}" for value in (*marking, *looking)), flush=True)


if __name__ == "__main__":
    main()
