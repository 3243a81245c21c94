"""The child process that looks for watermarks in frames which another child has decoded.

    FRAMES (grey pictures, one PGM after the other), the keys on standard input ──▶ JSON

The keys are in no process that decodes a stranger's file: what comes in here is bytes of a known number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from model.watermark.detector import Trace, detect
from worker.contract.key_file import KEY_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output; null: there are no frames."""
    keys = sys.stdin.buffer.read()
    cv2.setNumThreads(1)
    mean = _mean(Path(arguments[0]))
    sys.stdout.write(json.dumps(None if mean is None else _look(mean, keys)))
    return 0


def _look(mean: NDArray[np.float32], keys: bytes) -> dict[str, Any]:
    """Which of the keys left a mark, if one did, and what that says."""
    trace = Trace.of_mean(mean)
    for number in range(len(keys) // KEY_BYTES):
        found = detect(trace, keys[number * KEY_BYTES : (number + 1) * KEY_BYTES])
        if found.found:
            payload = None if found.payload is None else found.payload.hex()
            return {"key": number, "payload": payload}
    return {"key": None, "payload": None}


def _mean(path: Path) -> NDArray[np.float32] | None:
    """Mean of all frames `(H, W)`; None where there is none."""
    total: NDArray[np.float32] | None = None
    count = 0
    for frame in _frames(path):
        if total is None:
            total = np.zeros(frame.shape, np.float32)
        # A film that changes its size on the way has no grid that stands still.
        if frame.shape != total.shape:
            break
        cv2.accumulate(frame, total)
        count += 1
    return None if total is None else total / np.float32(count)


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Pictures `(H, W)`, uint8; one that is cut short ends them."""
    with path.open("rb") as stream:
        while stream.readline(8) == b"P5\n":
            width, height = (int(word) for word in stream.readline(32).split())
            stream.readline(8)
            pixels = stream.read(width * height)
            if len(pixels) < width * height:
                return
            yield np.frombuffer(pixels, np.uint8).reshape(height, width)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
