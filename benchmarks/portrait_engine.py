"""Milliseconds a frame of the portrait engine, on one thread.

    python benchmarks/portrait_engine.py [--frames 200] [--repeats 5]

Every case is timed `--repeats` times, interleaved with the others, and the best is printed; ratios are
against the engine's own floor at that size: copying the frame and one cubic remap of the whole crop.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alignment import crop_affine, crop_image, warp_points
from model.face.detection import MediaPipeFaceDetector, select_face
from model.face.inner_mouth import InnerMouthBank
from model.face.landmarks import mouth_width
from model.face.mouth_fill import Inner
from model.face.portrait_engine import PortraitEngine

ROOT = Path(__file__).resolve().parents[1]
SIZES = (128, 256, 512)
INNERS: tuple[Inner, ...] = ("none", "flat", "bank")


def make_targets(landmarks: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """A mouth that opens and closes, `(count, 68, 2)`."""
    opening = 0.15 * (1 - np.cos(np.linspace(0, 12 * np.pi, count))) * float(mouth_width(landmarks))
    targets = np.repeat(landmarks[None], count, axis=0)
    for point in (55, 56, 57, 58, 59, 65, 66, 67):
        targets[:, point, 1] += 0.8 * opening
    for point in range(5, 12):
        targets[:, point, 1] += 0.6 * opening
    for point in (50, 51, 52, 61, 62, 63):
        targets[:, point, 1] -= 0.2 * opening
    return targets


def milliseconds(run: Callable[[], object], count: int) -> float:
    """Mean wall time of one of `count` frames."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / count * 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "portrait.jpg")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    picture = cv2.imread(str(arguments.image))
    if picture is None:
        raise SystemExit(f"{arguments.image} is not a picture")
    image = np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8)
    pixels = select_face(MediaPipeFaceDetector()(image)).landmarks
    affine = crop_affine(pixels)
    landmarks = warp_points(affine, pixels)
    targets = make_targets(landmarks, arguments.frames)
    bank = InnerMouthBank.load(ROOT / "model" / "weights" / "inner_mouths")

    print(f"{'size':>5} {'case':>10} {'ms/frame':>9} {'x floor':>8}")
    for size in SIZES:
        crop = crop_image(image, affine, size)
        engine = PortraitEngine(crop, landmarks, bank)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32) + np.float32(0.3)

        def floor(crop: NDArray[np.uint8] = crop, x=x, y=y) -> None:  # type: ignore[no-untyped-def]
            for _ in range(arguments.frames):
                cv2.remap(crop.copy(), x, y, cv2.INTER_CUBIC)

        cases: dict[str, tuple[Callable[[], object], int]] = {
            "floor": (floor, arguments.frames),
            "set-up": (lambda: PortraitEngine(crop, landmarks, bank), 1),  # noqa: B023
        }
        for inner in INNERS:
            cases[inner] = (
                lambda inner=inner: [engine.render(t, inner=inner) for t in targets],  # type: ignore[misc]  # noqa: B023
                arguments.frames,
            )
        best = dict.fromkeys(cases, float("inf"))
        for _ in range(arguments.repeats):
            for name, (run, count) in cases.items():
                best[name] = min(best[name], milliseconds(run, count))
        for name, value in best.items():
            print(f"{size:>5} {name:>10} {value:>9.2f} {value / best['floor']:>8.1f}")


if __name__ == "__main__":
    main()
