"""What a frame costs and what it is compared with, in one run: `make bench`.

    python benchmarks/performance.py [--release ../release] [--lengths 10 60 300] [--output out/performance]

presets     still, natural motion and film; beside a release's checkout where one is given
stages      of `balanced`, one thread
floor       our multiplications at the speed of this run's matrix product, and how fast memory is copied
peers       the work of others' networks (benchmarks/peers.py)
size, length    cost against the picture's side; memory and CPU time against the sound's length

Milliseconds are CPU time of all threads, which other load disturbs least; the best of all repeats counts.
Prints tables and writes `figures.json` and `presets.png`, `stages.png` and `peers.png`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import beside_release
import cv2
import memory
import network_sizes
import numpy as np
import peers
import torch
from pipeline import read_speech, sized, stage_cases

from model.face.head_motion import HeadMotion, MovedPicture
from model.pipelines.options import RenderOptions
from model.pipelines.outputs import RenderPlan
from model.pipelines.parallel import one_thread
from model.pipelines.presets import PRESETS
from model.pipelines.talking_face import TalkingFacePipeline, load_pipeline

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = "balanced"
Figures = dict[str, Any]


def cpu_ms(pipeline: TalkingFacePipeline, plan: RenderPlan, repeats: int) -> float:
    """CPU milliseconds a frame of a whole video."""
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.process_time()
        for _ in pipeline.render(plan):
            pass
        best = min(best, (time.process_time() - began) / plan.num_frames)
    return 1e3 * best


def measure_floor() -> Figures:
    """GMAC a second of a matrix product in fp32 and bf16, and GB a second of a copy; one thread."""
    floor: Figures = {}
    side = 1024
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.ones(side, side, dtype=dtype)
        spent = peers.milliseconds(lambda x=matrix: x @ x, 20)  # type: ignore[misc]
        floor[f"GMAC/s {name}"] = side**3 / spent / 1e6
    source = torch.zeros(2**26)
    target = torch.empty_like(source)
    floor["copy GB/s"] = source.nbytes / peers.milliseconds(lambda: target.copy_(source), 5) / 1e6
    return floor


def frame_gmac(pipeline: TalkingFacePipeline, plan: RenderPlan) -> float:
    """GMAC a frame of a plan: what its networks multiply, only what is pasted decoded."""
    rows = {row.work: row.gmac for row in network_sizes.measure("tiny", "mouth")}
    crops = pipeline._job(plan).crops
    if crops is None:
        return 0.0
    cells = pipeline.networks.latent_size**2
    decoded, finer = (
        window.height * window.width / cells
        for window in (crops._pasted.decoded, crops._pasted.finer)
    )
    return (
        rows["landmarks, each frame"]
        + plan.num_inference_steps * rows["U-Net, each frame and step"]
        + rows["encoder, each frame"]
        + decoded * rows["decoder, each frame"]
        + finer * rows["detail network, each frame"]
    )


def film_of(picture: np.ndarray, pipeline: TalkingFacePipeline, frames: int) -> MovedPicture:
    """A film: the photograph nods."""
    face = pipeline._detector()(picture)[0].landmarks
    nod = np.sin(np.arange(frames) / 6).astype(np.float32)
    still = np.zeros((frames, 2), np.float32)
    motion = HeadMotion(0.03 * nod, 0.01 * nod, 0.02 * np.stack([nod, nod], 1), 1 + still, still)
    return MovedPicture(picture, face, motion, 25.0)


def measure(arguments: argparse.Namespace) -> Figures:
    """All figures but the release's."""
    pipeline = load_pipeline()
    pipeline.warm_up()
    original = cv2.imread(str(arguments.image))[..., ::-1]
    picture = sized(np.ascontiguousarray(original).astype(np.uint8), None)
    sound = read_speech(ROOT / "examples" / "speech.wav", arguments.seconds)
    figures: Figures = {
        "dtype": pipeline.torch_dtype_name,
        "threads": torch.get_num_threads(),
        "batch": 8,
        "side_px": max(picture.shape),
    }
    with one_thread():
        figures["floor"] = floor = measure_floor()
    plans = {
        f"{preset} {motion}": pipeline.prepare(
            picture, sound, RenderOptions(preset=preset, motion=motion, blink=motion == "natural")
        )
        for preset in arguments.presets
        for motion in ("still", "natural")
    }
    film = film_of(picture, pipeline, round(25 * arguments.seconds))
    for preset in arguments.presets:
        options = RenderOptions(preset=preset)
        plans[f"{preset} film"] = pipeline.prepare_video(film, sound, options)
    figures["presets"] = {n: cpu_ms(pipeline, p, arguments.repeats) for n, p in plans.items()}
    figures["GMAC"] = {p: frame_gmac(pipeline, plans[f"{p} still"]) for p in arguments.presets}
    rate = floor[f"GMAC/s {pipeline.torch_dtype_name}"]
    figures["share of the floor"] = {
        p: gmac / rate * 1e3 / figures["presets"][f"{p} still"]
        for p, gmac in figures["GMAC"].items()
    }
    plan = plans[f"{DEFAULT} still"]
    with one_thread(), torch.inference_mode():
        figures["stages"] = {
            name: peers.milliseconds(case, 2 * arguments.repeats) / plan.batch_size
            for name, case in stage_cases(pipeline, plan).items()
        }
        figures["peers"] = peers.peer_costs(arguments.repeats)
    figures["sizes"] = {
        side: cpu_ms(pipeline, pipeline.prepare(sized(picture, side), sound), arguments.repeats)
        for side in arguments.sides
    }
    return figures


def print_tables(figures: Figures) -> None:
    """The figures as text, and their ratios."""
    print(
        f"{figures['dtype']}, {figures['threads']} threads, batch {figures['batch']}, "
        f"{figures['side_px']} px; CPU milliseconds of all threads"
    )
    release = figures.get("release", {})
    for name in ("presets", "stages", "floor", "GMAC", "share of the floor", "sizes", "lengths"):
        print(f"\n{name}")
        for key, value in figures.get(name, {}).items():
            print(f"{key!s:>22} {value:>10.2f}")
    ours = figures["presets"][f"{DEFAULT} still"]
    print(f"\npeers{'':>18} core-ms   {DEFAULT} / peer")
    for key, value in figures["peers"].items():
        print(f"{key:>22} {value:>10.1f} {ours / value:>10.4f}")
    if release:
        print(f"\n{'beside the release':>30} {'CPU ms':>8} {'x':>6} {'wall ms':>8} {'x':>6}")
    for key, (wall, cpu) in release.items():
        own = "preview" if " preview " in key else DEFAULT
        base_wall, base_cpu = release[f"release {own} still"]
        print(f"{key:>30} {cpu:>8.1f} {cpu / base_cpu:>6.2f} {wall:>8.1f} {wall / base_wall:>6.2f}")


def plot(figures: Figures, folder: Path) -> None:
    """Bars of presets, stages and peers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    for name in ("presets", "stages", "peers"):
        values = figures[name]
        figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(values) + 1.2))
        axes.barh(list(values), list(values.values()), color="#4477aa")
        axes.invert_yaxis()
        axes.set_xlabel("CPU milliseconds a frame")
        axes.set_xscale("log" if name == "peers" else "linear")
        axes.bar_label(axes.containers[0], fmt="%.1f", padding=3)
        axes.margins(x=0.12)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.png", dpi=120)
        pyplot.close(figure)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--release", type=Path, default=None, help="another checkout")
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "portrait.jpg")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sides", type=int, nargs="*", default=[320, 640, 1280])
    parser.add_argument("--lengths", type=float, nargs="*", default=[10.0, 60.0, 300.0])
    parser.add_argument("--output", type=Path, default=ROOT / "out" / "performance")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    arguments.preset, arguments.motion = "preview", "natural"
    arguments.speech = ROOT / "examples" / "speech.wav"
    # first: a child's peak counts from its parent's on
    lengths: Figures = {}
    for seconds in arguments.lengths:
        peak, spent_s = memory.measure(arguments, seconds)
        lengths[f"{seconds:.0f} s, peak MiB"] = peak
        lengths[f"{seconds:.0f} s, CPU s"] = spent_s
    figures = {**measure(arguments), "lengths": lengths}
    if arguments.release is not None:
        figures["release"] = beside_release.compare(arguments)
    print_tables(figures)
    (arguments.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    plot(figures, arguments.output)


if __name__ == "__main__":
    main()
