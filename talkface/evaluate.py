"""`talkface evaluate`: figures of one or more checkpoints, in this process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from talkface.exits import Exit, fail
from talkface.generate import FILE, quiet_libraries

if TYPE_CHECKING:
    from model.evaluation.options import Checkpoint, Protocol

_FOLDER = {"exists": True, "file_okay": False}

Weights = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]DIR",
        help="Checkpoint folder; more than one gives a comparison, one name more than once is "
        "several runs of one system. Default: the checkpoint that ships.",
    ),
]
Clips = Annotated[Path | None, typer.Option(help="Folder of real videos with sound.", **_FOLDER)]
LayoutName = Annotated[
    str, typer.Option(help="How they are laid out: grid, hdtf, voxceleb or folder.")
]
EveryClip = Annotated[
    bool, typer.Option(help="Take all of them, not only those that training leaves out.")
]
Portraits = Annotated[
    Path | None, typer.Option(help="Folder of photographs; default: the example.", **_FOLDER)
]
Speech = Annotated[
    Path | None, typer.Option(help="Folder of voices; default: the example.", **_FOLDER)
]
Limit = Annotated[int, typer.Option(min=1, help="Clips and photographs at most.")]
MotionLimit = Annotated[int, typer.Option(min=1, help="Photographs of `motion` at most.")]
Stride = Annotated[int, typer.Option(min=1, help="`motion` draws every so many frames.")]
CropPx = Annotated[
    int | None,
    typer.Option(
        min=64, max=1024, help="Side at which videos are compared; default: the face's own."
    ),
]
Seconds = Annotated[float, typer.Option(min=1, help="Longer recordings are cut there.")]
Preset = Annotated[str, typer.Option(help="preview, fast, balanced or quality.")]
Seeds = Annotated[list[int] | None, typer.Option(help="Of the noise; may be given more than once.")]
Protocols = Annotated[
    str,
    typer.Option(
        help="Of reenactment, dubbing, references, portraits, motion, steadiness, heads, blinks, "
        "lively; with commas."
    ),
]
DataSource = Annotated[
    Path | None,
    typer.Option(
        help="Folder with portraits/, portraits_hd/, speech/, head_motion/ and films, for heads, "
        "blinks and lively.",
        **_FOLDER,
    ),
]
HalfName = Annotated[
    str, typer.Option(help="Of the people in --source: choosing, for choices, or final.")
]
LandmarkFigures = Annotated[
    Path | None,
    typer.Option(
        help="figures.json of `python -m model.evaluation.landmark_figures`, for the table of "
        "what a checkpoint must reach.",
        **FILE,
    ),
]
Output = Annotated[Path, typer.Option(file_okay=False, help="Folder of the report.")]
FidFeatures = Annotated[Path | None, typer.Option(help="TorchScript features for FID.", **FILE)]
Lpips = Annotated[Path | None, typer.Option(help="TorchScript LPIPS.", **FILE)]
Identity = Annotated[Path | None, typer.Option(help="TorchScript face embedder for CSIM.", **FILE)]
Syncnet = Annotated[Path | None, typer.Option(help="TorchScript of the original SyncNet.", **FILE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")]


def evaluate(
    weights: Weights = None,
    clips: Clips = None,
    layout: LayoutName = "grid",
    every_clip: EveryClip = False,
    portraits: Portraits = None,
    speech: Speech = None,
    source: DataSource = None,
    half: HalfName = "final",
    limit: Limit = 8,
    motion_limit: MotionLimit = 50,
    stride: Stride = 3,
    crop_px: CropPx = None,
    seconds: Seconds = 5.0,
    preset: Preset = "balanced",
    seeds: Seeds = None,
    protocols: Protocols = "reenactment,dubbing,references,portraits",
    landmark_figures: LandmarkFigures = None,
    output: Output = Path("out/evaluation"),
    fid_features: FidFeatures = None,
    lpips: Lpips = None,
    identity: Identity = None,
    syncnet: Syncnet = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure checkpoints on real videos and photographs: tables, contact sheets, plots."""
    quiet_libraries()
    import torch

    from model.data.layouts import LAYOUTS, Layout
    from model.errors import ModelError
    from model.evaluation.evaluate import evaluate as run
    from model.evaluation.observation import load_judges
    from model.evaluation.options import HALVES, EvaluationOptions, Half
    from model.face.detection import MediaPipeFaceDetector
    from model.pipelines.presets import PRESETS

    wanted = _protocols(protocols)
    _check_word("--preset", preset, PRESETS)
    _check_word("--layout", layout, LAYOUTS)
    _check_word("--half", half, HALVES)
    if threads is not None:
        torch.set_num_threads(threads)
    options = EvaluationOptions(
        checkpoints=tuple(_checkpoint(text) for text in weights or ["ours="]),
        output=output,
        clips=clips,
        layout=cast(Layout, layout),
        every_clip=every_clip,
        portraits=portraits,
        speech=speech,
        source=source,
        half=cast(Half, half),
        limit=limit,
        motion_limit=motion_limit,
        stride=stride,
        crop_px=crop_px,
        landmark_figures=landmark_figures,
        seconds=seconds,
        preset=preset,
        seeds=tuple(seeds or [0]),
        protocols=wanted,
        device=device,
    )
    files = {"fid_features": fid_features, "lpips": lpips, "identity": identity, "syncnet": syncnet}
    try:
        judges = load_judges(MediaPipeFaceDetector(), **files)
        run(options, judges, lambda text: typer.echo(text, err=True))
    except ModelError as error:
        fail(Exit.FAILED, str(error))
    typer.echo((output / "evaluation.md").read_text())
    typer.echo(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}", err=True)


def _check_word(option: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise typer.BadParameter(f"{word!r}; expected one of {', '.join(known)}", param_hint=option)


def _protocols(text: str) -> tuple[Protocol, ...]:
    """The names in a list with commas."""
    from model.evaluation.options import PROTOCOLS

    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in PROTOCOLS]
    if unknown or not wanted:
        raise typer.BadParameter(
            f"unknown {', '.join(unknown) or 'nothing'}; expected some of {', '.join(PROTOCOLS)}",
            param_hint="--protocols",
        )
    return cast("tuple[Protocol, ...]", tuple(wanted))


def _checkpoint(text: str) -> Checkpoint:
    """`name=folder`, or a folder, which is its own name; `ours=` is the checkpoint that ships."""
    from model.evaluation.options import Checkpoint

    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = Path(text).name, text
    if not folder:
        return Checkpoint(name, None)
    if not Path(folder).is_dir():
        raise typer.BadParameter(
            f"{folder} is not a folder; expected a checkpoint", param_hint="--weights"
        )
    return Checkpoint(name, Path(folder))
