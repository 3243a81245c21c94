"""`talkface evaluate`: figures of one or more checkpoints, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from talkface.exits import Exit
from talkface.generate import _quiet_libraries

if TYPE_CHECKING:
    from model.evaluation.options import Checkpoint

_FOLDER = {"exists": True, "file_okay": False}
_FILE = {"exists": True, "dir_okay": False}


def evaluate(
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]DIR",
            help="Checkpoint folder; more than one gives a comparison, one name more than once is "
            "several runs of one system. Default: the checkpoint that ships.",
        ),
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of real videos with sound.", **_FOLDER)
    ] = None,
    layout: Annotated[
        str, typer.Option(help="How they are laid out: grid, hdtf, voxceleb or folder.")
    ] = "grid",
    every_clip: Annotated[
        bool, typer.Option(help="Take all of them, not only those that training leaves out.")
    ] = False,
    portraits: Annotated[
        Path | None, typer.Option(help="Folder of photographs; default: the example.", **_FOLDER)
    ] = None,
    speech: Annotated[
        Path | None, typer.Option(help="Folder of voices; default: the example.", **_FOLDER)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Clips and photographs at most.")] = 8,
    motion_limit: Annotated[int, typer.Option(min=1, help="Photographs of `motion` at most.")] = 50,
    stride: Annotated[int, typer.Option(min=1, help="`motion` draws every so many frames.")] = 3,
    crop_px: Annotated[
        int | None,
        typer.Option(
            min=64, max=1024, help="Side at which videos are compared; default: the face's own."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Longer recordings are cut there.")] = 5.0,
    preset: Annotated[str, typer.Option(help="preview, fast, balanced or quality.")] = "balanced",
    seeds: Annotated[
        list[int] | None, typer.Option(help="Of the noise; may be given more than once.")
    ] = None,
    protocols: Annotated[
        str,
        typer.Option(
            help="Of reenactment, dubbing, references, portraits, motion, steadiness; with commas."
        ),
    ] = "reenactment,dubbing,references,portraits",
    landmark_figures: Annotated[
        Path | None,
        typer.Option(
            help="figures.json of `python -m model.evaluation.landmark_figures`, for the table of "
            "what a checkpoint must reach.",
            **_FILE,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the report.")] = Path(
        "out/evaluation"
    ),
    fid_features: Annotated[
        Path | None, typer.Option(help="TorchScript features for FID.", **_FILE)
    ] = None,
    lpips: Annotated[Path | None, typer.Option(help="TorchScript LPIPS.", **_FILE)] = None,
    identity: Annotated[
        Path | None, typer.Option(help="TorchScript face embedder for CSIM.", **_FILE)
    ] = None,
    syncnet: Annotated[
        Path | None, typer.Option(help="TorchScript of the original SyncNet.", **_FILE)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
) -> None:
    """Measure checkpoints on real videos and photographs: tables, contact sheets, plots."""
    _quiet_libraries()
    import torch

    from model.data.layouts import LAYOUTS, Layout
    from model.errors import ModelError
    from model.evaluation.evaluate import evaluate as run
    from model.evaluation.observation import load_judges
    from model.evaluation.options import PROTOCOLS, EvaluationOptions, Protocol
    from model.face.detection import MediaPipeFaceDetector
    from model.pipelines.presets import PRESETS

    wanted = [name.strip() for name in protocols.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in PROTOCOLS]
    if unknown or not wanted:
        raise typer.BadParameter(
            f"unknown {', '.join(unknown) or 'nothing'}; expected some of {', '.join(PROTOCOLS)}",
            param_hint="--protocols",
        )
    if preset not in PRESETS:
        raise typer.BadParameter(
            f"{preset!r}; expected one of {', '.join(PRESETS)}", param_hint="--preset"
        )
    if layout not in LAYOUTS:
        raise typer.BadParameter(
            f"{layout!r}; expected one of {', '.join(LAYOUTS)}", param_hint="--layout"
        )
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
        limit=limit,
        motion_limit=motion_limit,
        stride=stride,
        crop_px=crop_px,
        landmark_figures=landmark_figures,
        seconds=seconds,
        preset=preset,
        seeds=tuple(seeds or [0]),
        protocols=cast(tuple[Protocol, ...], tuple(wanted)),
        device=device,
    )
    try:
        judges = load_judges(
            MediaPipeFaceDetector(),
            fid_features=fid_features,
            lpips=lpips,
            identity=identity,
            syncnet=syncnet,
        )
        run(options, judges, lambda text: typer.echo(text, err=True))
    except ModelError as error:
        typer.echo(f"talkface: {error}", err=True)
        raise typer.Exit(Exit.FAILED) from None
    typer.echo((output / "evaluation.md").read_text())
    typer.echo(f"{output}: {', '.join(sorted(path.name for path in output.iterdir()))}", err=True)


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
