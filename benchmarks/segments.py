"""One long video by one worker and by two, of one thread each: frames a second, and whether it is the same.

    python benchmarks/segments.py [--seconds 12] [--side 640] [--preset fast]

Each worker is a process that loads the checkpoint and prepares the job by itself, as workers on other
hosts do; both are done before the clock starts. Then they draw and encode segments until none is left.
Rounds of one and of two workers take turns, and the ratio is that of their best. Afterwards the raw
frames are compared by digest with those of one process that drew all in one piece, and the files byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def prepare(options: argparse.Namespace) -> tuple[Any, Any]:
    """A pipeline of one thread, and the plan of the video."""
    import torch
    from pipeline import example_plan

    from model.pipelines.talking_face import load_pipeline

    torch.set_num_threads(1)
    pipeline = load_pipeline(device="cpu")
    return pipeline, example_plan(pipeline, options.preset, options.seconds, options.side)


def draw(
    pipeline: Any, plan: Any, start: int, stop: int, path: Path, segment_frames: int
) -> list[str]:
    """Draw and encode some frames; the digest of each as it was drawn."""
    from model.media.video_writer import VideoWriter

    digests = []
    with VideoWriter(
        path,
        width=plan.width,
        height=plan.height,
        fps=plan.fps,
        first_frame=start,
        segment_frames=segment_frames,
    ) as writer:
        for frames in pipeline.render(plan, start, stop):
            for frame in frames:
                digests.append(hashlib.sha256(frame.tobytes()).hexdigest())
                writer.write(frame)
    return digests


def work(
    options: argparse.Namespace,
    segment_frames: int,
    ready: Barrier,
    next_segment: Any,
    done: Any,
    folder: Path,
) -> None:
    """A worker: prepare, wait for the others, then take segments until none is left."""
    pipeline, plan = prepare(options)
    # What the frames share is made with the first one.
    next(iter(pipeline.render(plan, 0, 1)))
    ready.wait()
    while True:
        with next_segment.get_lock():
            number = next_segment.value
            next_segment.value += 1
        start = number * segment_frames
        if start >= plan.num_frames:
            return
        stop = min(start + segment_frames, plan.num_frames)
        part = folder / f"{number}.mp4"
        done.put((number, draw(pipeline, plan, start, stop, part, segment_frames)))


def round_of(
    workers: int, options: argparse.Namespace, segment_frames: int, folder: Path, num_frames: int
) -> tuple[float, dict[int, list[str]]]:
    """Seconds of drawing by so many workers, and the digests by segment."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(workers + 1), context.Queue()
    next_segment = context.Value("i", 0)
    arguments = (options, segment_frames, ready, next_segment, done, folder)
    processes = [context.Process(target=work, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    count = -(-num_frames // segment_frames)
    digests = dict(done.get() for _ in range(count))
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds, digests


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if frames or files differ."""
    from model.media.joining import join_videos

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--segment-s", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    pipeline, plan = prepare(options)
    batches = max(1, round(options.segment_s * plan.fps / plan.batch_size))
    segment_frames = batches * plan.batch_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        best = {1: float("inf"), 2: float("inf")}
        digests: dict[int, list[str]] = {}
        for _ in range(options.rounds):
            for workers in best:
                seconds, digests = round_of(
                    workers, options, segment_frames, folder, plan.num_frames
                )
                best[workers] = min(best[workers], seconds)
                rate = plan.num_frames / seconds
                print(
                    f"{workers} worker(s): {seconds:.2f} s, {rate:.1f} frames a second", flush=True
                )
        alone = folder / "alone.mp4"
        whole = draw(pipeline, plan, 0, plan.num_frames, alone, segment_frames)
        divided = [digest for number in sorted(digests) for digest in digests[number]]
        lengths = [len(digests[number]) for number in sorted(digests)]
        began = time.perf_counter()
        parts = [folder / f"{number}.mp4" for number in sorted(digests)]
        join_videos(parts, lengths, folder / "joined.mp4", fps=plan.fps)
        join_s = time.perf_counter() - began
        is_same = alone.read_bytes() == (folder / "joined.mp4").read_bytes()
    equal = sum(a == b for a, b in zip(whole, divided, strict=True))
    print(f"{plan.num_frames} frames of {plan.width} x {plan.height} in {len(lengths)} segments")
    print(f"raw frames equal by sha256: {equal} of {len(whole)}")
    print(
        f"the file of one worker and the joined one are {'' if is_same else 'not '}the same bytes"
    )
    print(f"join: {join_s:.2f} s; two workers against one: {best[1] / best[2]:.2f}")
    return 0 if equal == len(whole) and is_same else 1


if __name__ == "__main__":
    sys.exit(main())
