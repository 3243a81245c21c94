"""What a frame costs beside the networks: they are replaced by stubs that take no time.

    python benchmarks/cpu_side.py [--side 640] [--preset balanced]

However fast a GPU draws, one thread of Python comes to no more frames a second than this says. Processor
seconds are counted, of this process and of the encoder, so that other programs' load changes little.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import example_plan  # noqa: E402

from model.media.video_writer import VideoWriter  # noqa: E402
from model.pipelines.denoising import CropSampler  # noqa: E402
from model.pipelines.detail import DetailPass  # noqa: E402
from model.pipelines.talking_face import load_pipeline  # noqa: E402


def sample(_sampler: CropSampler, _targets: Any, warped: NDArray[np.uint8], _into: Any) -> Any:
    """As if the networks had drawn what they were shown."""
    return warped.astype(np.float32)


def restore(_detail: DetailPass, _crops: Any, warped: NDArray[np.uint8]) -> Any:
    """As if the detail network had."""
    return warped.astype(np.float32)


def children_s() -> float:
    """Processor seconds of ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pipeline = load_pipeline(device="cpu", dtype="fp32")
    plan = example_plan(pipeline, options.preset, options.seconds, options.side)
    width, height = plan.width, plan.height
    CropSampler.sample = sample  # type: ignore[method-assign,assignment]
    DetailPass.__call__ = restore  # type: ignore[method-assign,assignment]
    first = plan.batch_size
    for _ in pipeline.render(plan, 0, first):
        pass
    count = plan.num_frames - first
    began = time.process_time()
    batches = list(pipeline.render(plan, first))
    drawing_ms = 1000 * (time.process_time() - began) / count
    began, before = time.process_time(), children_s()
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(Path(folder, "v.mp4"), width=width, height=height, fps=plan.fps) as writer,
    ):
        for batch in batches:
            for frame in batch:
                writer.write(frame)
    writing_ms = 1000 * (time.process_time() - began) / count
    encoding_ms = 1000 * (children_s() - before) / count
    print(f"{width} x {height}, preset {options.preset}, {count} frames, networks stubbed")
    print(f"drawing beside the networks: {drawing_ms:.1f} core-ms a frame")
    print(f"writing to the encoder: {writing_ms:.1f}, the encoder itself: {encoding_ms:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
