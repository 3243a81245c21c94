"""Milliseconds a frame of the pipeline, for each preset and each stage of drawing.

    python benchmarks/pipeline.py [--weights model/weights] [--seconds 4] [--repeats 3] [--side 800]

Presets are timed as users meet them: all cores, whole video; each with a head that is still, and with one
that moves naturally and blinks. Wall time and the CPU time of all threads stand beside each other. Stages
are timed alone, on one thread, one batch. Every case is timed `--repeats` times, interleaved with the others,
and the best is printed; ratios are against the first row and against one U-Net step, so they mean something on a
busy machine too.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from model.face.alignment import warp_points
from model.face.crop_colour import match_colour
from model.face.mouth_blend import blend_mouth
from model.media.audio import SAMPLE_RATE
from model.networks.detail import SCALE
from model.pipelines.crop_drawing import CarriedFaces
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.parallel import one_thread
from model.pipelines.presets import PRESETS
from model.pipelines.scenes import Batch
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

ROOT = Path(__file__).resolve().parents[1]


MOTIONS = ("still", "natural")


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def sized(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """The picture with its longer side of `side` pixels, even sides; None = as it is."""
    scale = 1.0 if side is None else side / max(image.shape[:2])
    height, width = (round(scale * length / 2) * 2 for length in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(resized).astype(np.uint8)


def time_presets(
    pipeline: TalkingFacePipeline, plans: dict[tuple[str, str], RenderPlan], repeats: int
) -> None:
    """Print a row for each preset and motion."""
    wall, cpu = dict.fromkeys(plans, float("inf")), dict.fromkeys(plans, float("inf"))
    for _ in range(repeats):
        for case, plan in plans.items():
            began = time.process_time()
            spent = seconds(lambda plan=plan: sum(len(x) for x in pipeline.render(plan)))  # type: ignore[misc]
            wall[case] = min(wall[case], spent / plan.num_frames)
            cpu[case] = min(cpu[case], (time.process_time() - began) / plan.num_frames)
    print(
        f"\n{'preset':>12} {'motion':>8} {'ms/frame':>9} {'CPU':>8} "
        f"{'x first':>10} {'x real time':>12} "
        f"{'CPU, natural - still':>21} {'/ still':>8}"
    )
    for preset, motion in plans:
        case, still = (preset, motion), cpu[preset, "still"]
        speed = 1 / (wall[case] * plans[case].fps)
        line = f"{preset:>12} {motion:>8} {wall[case] * 1e3:>9.1f} {cpu[case] * 1e3:>8.1f}"
        line += f" {wall[case] / wall[next(iter(plans))]:>10.1f} {speed:>12.2f}"
        if motion != "still":
            line += f" {(cpu[case] - still) * 1e3:>21.1f} {cpu[case] / still:>8.2f}"
        print(line)


def read_speech(path: Path, length_s: float) -> NDArray[np.float32]:
    """The sound at 16 kHz, repeated to `length_s`; good enough for timing."""
    sound, rate = soundfile.read(path, dtype="float32")
    times = np.arange(int(length_s * SAMPLE_RATE)) / SAMPLE_RATE
    return np.interp(times % (len(sound) / rate), np.arange(len(sound)) / rate, sound).astype(
        np.float32
    )


def example_plan(
    pipeline: TalkingFacePipeline, preset: str, length_s: float, side: int
) -> RenderPlan:
    """The example portrait and voice, the head moving."""
    picture = cv2.imread(str(ROOT / "examples" / "portrait.jpg"))
    assert picture is not None
    image = sized(np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8), side)
    waveform = read_speech(ROOT / "examples" / "speech.wav", length_s)
    return pipeline.prepare(image, waveform, RenderOptions(preset=preset, motion="natural"))


def stage_cases(pipeline: TalkingFacePipeline, plan: RenderPlan) -> dict[str, Callable[[], object]]:
    """What one batch consists of; each case does it for `plan.batch_size` frames."""
    job = pipeline._job(plan)
    assert job.crops is not None
    sampler, detail = job.crops.sampler, job.crops.detail
    source = job.scene.source(Batch(0, plan.batch_size, slice(0, plan.batch_size)), 0)
    assert source is not None
    target = plan.target_landmarks[plan.num_frames // 2]
    targets = np.repeat(target[None], plan.batch_size, axis=0)
    moved = source.engine.move(target)
    carried, affine = moved.draw("bank"), job.crops.affine(target)
    faces = CarriedFaces(
        **{
            name: [value] * plan.batch_size
            for name, value in (
                ("targets", target),
                ("flat", moved.draw("flat")),
                ("filled", carried),
                ("shown", source.engine.crop),
                ("own", source.landmarks),
                ("affines", affine),
            )
        }
    )
    size = pipeline.networks.crop_px
    warped, filled = (
        job.crops._cut(pictures, faces.affines, side)
        for pictures, side in ((faces.flat, size), (faces.filled, SCALE * size))
    )
    points = np.stack([warp_points(affine, target)] * plan.batch_size)
    latents = sampler._reference_latents.expand(plan.batch_size, -1, -1, -1).float()
    background = job.crops._background_of(sampler, faces, warped)
    if background is None:
        background = sampler._carried(points, latents.to(pipeline.dtype))
    crops = sampler.sample(points, warped, background)
    fine = crops if detail is None else detail(crops, filled)

    def condition() -> object:
        return pipeline.unet.prepare_condition(
            target_landmarks=torch.from_numpy(points).to(pipeline.device),
            reference_landmarks=sampler._reference_landmarks,
            masked_latents=background.masked_latents,
            mask=background.mask,
            reference_latents=sampler._reference_latents,
            warped_latents=latents.to(pipeline.dtype),
            reference=sampler._cache,
        )

    with torch.inference_mode():
        prepared = condition()
    noise = sampler._noise.expand(plan.batch_size, -1, -1, -1).to(pipeline.dtype)
    cases: dict[str, Callable[[], object]] = {
        "carry": lambda: [source.engine.move(t).draw("bank") for t in targets],
        "encode": lambda: sampler._encode(sampler._pictures(warped)),
        "condition": condition,
        "U-Net step": lambda: pipeline.unet(noise, 500, prepared),
        "decode": lambda: sampler._place(sampler._decode(latents)),
        "light": lambda: [
            match_colour(c, w, t) for c, w, t in zip(crops, warped, points, strict=True)
        ],
        "blend": lambda: [
            blend_mouth(
                carried[moved.mouth],
                moved.mouth,
                source.engine.size,
                crop,
                target,
                source.landmarks,
                affine,
                200.0,
            )
            for crop in fine
        ],
        "paste": lambda: [
            source.compositor.paste_mouth(
                carried[moved.mouth], moved.mouth, source.engine.size, moved.fields[-1]
            )
            for _ in fine
        ],
    }
    if detail is not None:
        cases["detail"] = lambda: detail(crops, filled)
    return cases


def time_stages(pipeline: TalkingFacePipeline, plan: RenderPlan, repeats: int) -> None:
    """Print a row for each stage of drawing."""
    with one_thread(), torch.inference_mode():
        cases = stage_cases(pipeline, plan)
        stages = dict.fromkeys(cases, float("inf"))
        for _ in range(3 * repeats):
            for name, case in cases.items():
                stages[name] = min(stages[name], seconds(case) / plan.batch_size)
    print(f"\n{'stage':>12} {'ms/frame':>9} {'x step':>10}   (one thread)")
    for name, value in stages.items():
        print(f"{name:>12} {value * 1e3:>9.2f} {value / stages['U-Net step']:>10.2f}")


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "portrait.jpg")
    parser.add_argument("--speech", type=Path, default=ROOT / "examples" / "speech.wav")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=None, help="longer side of the picture, pixels")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--no-stages", action="store_true", help="time whole videos alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()

    pipeline = load_pipeline(arguments.weights, device=arguments.device, dtype=arguments.dtype)
    warm_up_s = seconds(pipeline.warm_up)
    picture = cv2.imread(str(arguments.image))
    if picture is None:
        raise SystemExit(f"{arguments.image} is not a picture")
    image = sized(np.ascontiguousarray(picture[..., ::-1]).astype(np.uint8), arguments.side)
    waveform = read_speech(arguments.speech, arguments.seconds)
    prepare_s = seconds(lambda: pipeline.prepare(image, waveform))
    print(
        f"{pipeline.device}, {pipeline.torch_dtype_name}, {pipeline.attention_backend}, "
        f"{torch.get_num_threads()} threads; warm-up {warm_up_s:.2f} s, prepare {prepare_s:.2f} s"
    )

    plans = {
        (name, motion): pipeline.prepare(
            image, waveform, RenderOptions(preset=name, motion=motion, blink=motion == "natural")
        )
        for name in arguments.presets
        for motion in MOTIONS
    }
    time_presets(pipeline, plans, arguments.repeats)
    if not arguments.no_stages:
        time_stages(pipeline, pipeline.prepare(image, waveform), arguments.repeats)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak RSS {peak_mb:.0f} MiB")


if __name__ == "__main__":
    main()
