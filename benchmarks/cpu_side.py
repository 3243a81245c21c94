"""What a frame costs beside the networks: they are replaced by stubs that take no time.

    python benchmarks/cpu_side.py [--side 640] [--preset balanced]

However fast a GPU draws, a process comes to no more frames a second than this says. Processor seconds are counted, of
this process and of the encoder, so that other programs' load changes little; wall time says what a second thread
brings, and wants an idle machine.

"NumPy": frames are finished as on a CPU. "device": as on CUDA, where the pictures' tensors are the GPU's work; they
are replaced by nothing, too, and what the CPU prepares for them is done. What it takes to start their operations is
estimated from their number.
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
from torch.utils._python_dispatch import TorchDispatchMode

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import example_plan  # noqa: E402

from model.media.video_writer import VideoWriter  # noqa: E402
from model.pipelines.denoising import CropSampler  # noqa: E402
from model.pipelines.detail import DetailPass  # noqa: E402
from model.pipelines.device_frames import DeviceFrames, FramePart, stack_pictures  # noqa: E402
from model.pipelines.drawing import PlanDrawer  # noqa: E402
from model.pipelines.outputs import RenderPlan  # noqa: E402
from model.pipelines.parallel import map_ahead  # noqa: E402
from model.pipelines.scenes import Batch, plan_batches  # noqa: E402
from model.pipelines.talking_face import load_pipeline  # noqa: E402

LAUNCH_MS: Final = 0.01
"""What Python, torch and the driver take to start one operation on a GPU, about."""


def sample(_sampler: CropSampler, _targets: Any, warped: NDArray[np.uint8], _into: Any) -> Any:
    """As if the networks had drawn what they were shown."""
    return warped.astype(np.float32)


def restore(_detail: DetailPass, _crops: Any, warped: NDArray[np.uint8]) -> Any:
    """As if the detail network had."""
    return warped.astype(np.float32)


def prepare_only(self: DeviceFrames, frames: Sequence[FramePart]) -> torch.Tensor:
    """What the CPU does for `DeviceFrames.draw_part`, and the memory that frames come into."""
    image, head = self._compositor.image, self._head
    np.stack([frame.backward for frame in frames]) @ self._compositor.to_pixels
    stack_pictures([self._soft(frame) for frame in frames])
    for frame in frames if head is not None else ():
        head[0].with_eyes(image, frame.motion_index)
        head[0].pose(frame.motion_index)
    return torch.zeros((len(frames), *image.shape), dtype=torch.uint8)


class Counter(TorchDispatchMode):
    """Counts torch's operations."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def children_s() -> float:
    """Processor seconds of ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(drawer: PlanDrawer, plan: RenderPlan, place: str) -> list[NDArray[np.uint8]]:
    """Print what drawing costs; all batches."""
    drawer.draw(Batch(0, 2, slice(0, 2)))
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
    return drawn


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
    pipeline.batch_size = 32
    plan = example_plan(pipeline, options.preset, options.seconds, options.side)
    CropSampler.sample = sample  # type: ignore[method-assign,assignment]
    DetailPass.__call__ = restore  # type: ignore[method-assign,assignment]
    drawer = pipeline._job(plan)
    device_frames = drawer.make_device_frames(torch.device("cpu"))
    assert device_frames is not None
    print(f"{plan.width} x {plan.height}, preset {options.preset}, {plan.num_frames} frames")
    batches = measure(drawer, plan, "NumPy")
    drawer.device_frames = device_frames
    with Counter() as counter:
        drawer.draw(Batch(32, 32, slice(0, 32)))
    DeviceFrames.draw_part = prepare_only  # type: ignore[method-assign]
    measure(drawer, plan, "device")
    starting_ms = counter.count * LAUNCH_MS / 32
    print(
        f"    {counter.count} operations for 32 frames: {starting_ms:.2f} ms a frame at {LAUNCH_MS} each"
    )
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
