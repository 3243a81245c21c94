"""`make gpu`: what a GPU does with this tree, in one table. Needs neither MediaPipe nor the network.

    tests/gpu ─▶ frames a second, end to end and by preset ─▶ fp16 beside fp32 ─▶ xformers beside SDPA ─▶ profile

    python -m tests.gpu_check [--device cuda] [--seconds 12] [--output out/gpu]

With `--device cpu --seconds 0.5` it is a rehearsal of itself: the same code, figures that say nothing of a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from model.media.encoders import VideoEncoder, encoder_fault
from model.media.video_writer import VideoWriter
from model.networks.attention import use_backend, xformers_fault
from model.pipelines.outputs import RenderPlan
from model.pipelines.presets import PRESETS
from model.pipelines.talking_face import TalkingFacePipeline
from tests.gpu_plans import ROOT, example_plan, load_example_pipeline

Rows = dict[str, str]
SIDE: Final = 640
DEFAULT: Final = "balanced"


def frames_per_second(pipeline: TalkingFacePipeline, plan: RenderPlan) -> tuple[float, float]:
    """Of drawing, and what it takes of cores, milliseconds a frame."""
    cpu, wall = time.process_time(), time.perf_counter()
    count = sum(len(frames) for frames in pipeline.render(plan))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return count / wall, 1000 * cpu / count


def end_to_end(
    pipeline: TalkingFacePipeline, plan: RenderPlan, encoder: VideoEncoder, folder: Path
) -> float:
    """Frames a second of drawing and encoding."""
    began = time.perf_counter()
    path = folder / f"{encoder}.mp4"
    size = {"width": plan.width, "height": plan.height}
    with VideoWriter(path, fps=plan.fps, encoder=encoder, **size) as writer:
        for frames in pipeline.render(plan):
            for frame in frames:
                writer.write(frame)
    return plan.num_frames / (time.perf_counter() - began)


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of two films."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * float(np.log10(255.0**2 / max(error, 1e-9)))


def draw(pipeline: TalkingFacePipeline, plan: RenderPlan) -> NDArray[np.uint8]:
    """All frames, only where mouths are."""
    # a new plan: nothing that was prepared in another dtype is kept
    frames = np.concatenate(list(pipeline.render(dataclasses.replace(plan))))
    return frames[:, pipeline.soft_mask(plan)]


def compare(pipeline: TalkingFacePipeline, plan: RenderPlan) -> Rows:
    """fp16 beside fp32, and where there is xformers, it beside SDPA."""
    rows: Rows = {}
    own = pipeline.dtype
    exact = draw(pipeline.to(dtype=torch.float32), plan)
    half = torch.float16 if pipeline.device.type == "cuda" else torch.bfloat16
    found = psnr_db(draw(pipeline.to(dtype=half), plan), exact)
    rows[f"{half} beside fp32, dB (fp16: > 40)".replace("torch.", "")] = f"{found:.1f}"
    fault = "there is no GPU"
    if pipeline.device.type == "cuda":
        fault = xformers_fault(pipeline.device, half) or ""
    if fault:
        rows["xformers"] = fault
    else:
        speeds = {}
        for backend in ("sdpa", "xformers"):
            with use_backend(backend):  # type: ignore[arg-type]
                frames_per_second(pipeline, plan)
                speeds[backend], _ = frames_per_second(pipeline, plan)
        rows["xformers / SDPA, frames a second"] = f"{speeds['xformers'] / speeds['sdpa']:.2f}"
    pipeline.to(dtype=own)
    return rows


def profiled(pipeline: TalkingFacePipeline, plan: RenderPlan, path: Path) -> Rows:
    """The table of operations goes into a file; the share of the time that the device worked is a row."""
    activities = [ProfilerActivity.CPU]
    if pipeline.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    began = time.perf_counter()
    with profile(activities=activities) as recorded:
        count = sum(len(frames) for frames in pipeline.render(plan))
    wall_ms = 1000 * (time.perf_counter() - began)
    averages = recorded.key_averages()
    key = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    path.write_text(averages.table(sort_by=key, row_limit=40) + "\n")
    busy_ms = sum(event.self_device_time_total for event in averages) / 1000
    return {
        "device busy, ms a frame": f"{busy_ms / count:.3f}",
        "device busy, share of the time (profiled)": f"{busy_ms / wall_ms:.2f}",
    }


def measure(pipeline: TalkingFacePipeline, seconds: float, folder: Path) -> Rows:
    """All rows but the tests'."""
    rows: Rows = {}
    for preset in PRESETS:
        for motion in ("still", "natural"):
            plan = example_plan(pipeline, preset, seconds, SIDE, motion=motion)
            frames_per_second(pipeline, dataclasses.replace(plan))  # kernels are chosen
            speed, cost_ms = frames_per_second(pipeline, plan)
            rows[f"{preset}, {motion}: frames a second"] = f"{speed:.0f}"
            rows[f"{preset}, {motion}: core-ms a frame"] = f"{cost_ms:.1f}"
    plan = example_plan(pipeline, DEFAULT, seconds, SIDE)
    encoders: tuple[VideoEncoder, ...] = ("libx264", "h264_nvenc")
    for encoder in encoders:
        fault = encoder_fault(encoder)
        name = f"{DEFAULT} and {encoder}: frames a second"
        speed = 0.0 if fault else end_to_end(pipeline, plan, encoder, folder)
        rows[name] = fault or f"{speed:.0f}"
    short = example_plan(pipeline, DEFAULT, min(seconds, 2.0), SIDE)
    rows |= compare(pipeline, short)
    rows |= profiled(pipeline, short, folder / "profile.txt")
    if pipeline.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(pipeline.device) / 2**20
        rows["memory of the device at its peak, MiB"] = f"{peak:.0f}"
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the films")
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "gpu")
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device; `--device cpu --seconds 0.5` rehearses without one", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    rows: Rows = {"torch": torch.__version__, "device": options.device}
    if options.device != "cpu":
        rows["device"] = torch.cuda.get_device_name()
    code = 0
    if not options.skip_tests:
        code = int(pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]))
        rows["tests/gpu"] = "passed" if code == 0 else f"failed (pytest says {code})"
    rows |= measure(load_example_pipeline(options.device), options.seconds, options.output)
    width = max(len(name) for name in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    (options.output / "figures.json").write_text(json.dumps(rows, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
