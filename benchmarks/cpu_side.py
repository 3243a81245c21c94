"""What a frame costs beside the networks: they are replaced by stubs that take no time.

    python benchmarks/cpu_side.py [--side 640] [--preset balanced]

However fast a GPU draws, a process comes to no more frames a second than this says. Processor seconds are counted, of
this process and of the encoder, so that other programs' load changes little; wall time says what a second thread
brings, and wants an idle machine.

"NumPy": as on a CPU. "device": as on CUDA, where the frames are finished on the device. Without one, their tensors are on
torch's "meta" device: all of Python and of torch's dispatch is done, which is what a CPU does for a GPU, and no arithmetic.
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

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import example_plan  # noqa: E402

from model.media.video_writer import VideoWriter  # noqa: E402
from model.pipelines import device_frames  # noqa: E402
from model.pipelines.denoising import CropSampler  # noqa: E402
from model.pipelines.detail import DetailPass  # noqa: E402
from model.pipelines.parallel import map_ahead  # noqa: E402
from model.pipelines.scenes import plan_batches  # noqa: E402
from model.pipelines.talking_face import load_pipeline  # noqa: E402


def sample(_sampler: CropSampler, _targets: Any, warped: NDArray[np.uint8], _into: Any) -> Any:
    """As if the networks had drawn what they were shown."""
    return warped.astype(np.float32)


def restore(_detail: DetailPass, _crops: Any, warped: NDArray[np.uint8]) -> Any:
    """As if the detail network had."""
    return warped.astype(np.float32)


def read(picture: torch.Tensor, places: torch.Tensor, _mode: str) -> torch.Tensor:
    """One call, as on a GPU; on "meta" torch would write it out in dozens."""
    return picture.new_empty(picture.shape[0], *places.shape[:2])


def fetch(frames: list[torch.Tensor]) -> NDArray[np.uint8]:
    """Nothing comes from "meta"; the memory that it would come into does."""
    return np.zeros((len(frames), *frames[0].shape), np.uint8)


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
    cv2.setNumThreads(1)
    pipeline = load_pipeline(device="cpu", dtype="fp32")
    plan = example_plan(pipeline, options.preset, options.seconds, options.side)
    CropSampler.sample = sample  # type: ignore[method-assign,assignment]
    DetailPass.__call__ = restore  # type: ignore[method-assign,assignment]
    device_frames._read = read
    device_frames.DeviceFrames.fetch = staticmethod(fetch)  # type: ignore[assignment]
    drawer = pipeline._job(plan)
    print(
        f"{plan.width} x {plan.height}, preset {options.preset}, {plan.num_frames} frames, networks stubbed"
    )
    batches: list[NDArray[np.uint8]] = []
    for place in ("NumPy", "device"):
        on_device = place == "device"
        drawer.device_frames = (
            drawer.make_device_frames(torch.device("meta")) if on_device else None
        )
        drawn = [drawer.draw(batch) for batch in plan_batches(plan, 0, plan.batch_size)]
        began = time.process_time()
        drawn = [drawer.draw(batch) for batch in plan_batches(plan, 0, plan.num_frames)]
        cost_ms = 1000 * (time.process_time() - began) / plan.num_frames
        print(f"drawing beside the networks, {place}: {cost_ms:.1f} core-ms a frame")
        for workers in (1, 2):
            began = time.perf_counter()
            for _ in map_ahead(drawer.draw, plan_batches(plan, 0, plan.num_frames), workers):
                pass
            speed = plan.num_frames / (time.perf_counter() - began)
            print(f"    {workers} threads: {speed:.0f} frames a second")
        batches = batches or drawn
    began, before = time.process_time(), children_s()
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(
            Path(folder, "v.mp4"), width=plan.width, height=plan.height, fps=plan.fps
        ) as writer,
    ):
        for batch in batches:
            for frame in batch:
                writer.write(frame)
    writing_ms = 1000 * (time.process_time() - began) / plan.num_frames
    encoding_ms = 1000 * (children_s() - before) / plan.num_frames
    print(f"writing to the encoder: {writing_ms:.1f}, the encoder itself: {encoding_ms:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
