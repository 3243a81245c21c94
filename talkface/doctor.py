"""`talkface doctor`: what is missing on this machine, and how to get it.

Also as `python -m talkface.doctor` in the images. Each of them has a part of our packages, and only
what these need is looked at.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from talkface.doctor_redis import check_redis
from talkface.doctor_signer import check_signer
from talkface.exits import Exit
from talkface.findings import Finding, State, is_installed

MIN_FREE_BYTES = 2 * 10**9

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def doctor(
    data_dir: Annotated[
        Path, typer.Option(envvar="TALKFACE_DATA_DIR", help="Folder whose disk is looked at.")
    ] = Path("talkface-data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Instead: list the faces of this picture, by face_index.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Say what is missing here and how to get it; status 5 when something needed is."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    if image is not None:
        _print_faces(image, as_json=as_json)
        return
    findings = examine(data_dir)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.state is State.MISSING for finding in findings):
        raise typer.Exit(Exit.INCOMPLETE)


def _print_faces(image: Path, *, as_json: bool) -> None:
    # Late: the images of the service have no model.
    from model.errors import ModelError
    from talkface.face_list import list_faces
    from worker.contract.errors import IntakeError

    try:
        faces = list_faces(image)
    except (IntakeError, ModelError) as error:
        typer.echo(f"talkface: {getattr(error, 'detail', error)}", err=True)
        raise typer.Exit(Exit.INCOMPLETE) from None
    if as_json:
        typer.echo(json.dumps([asdict(face) for face in faces], indent=2))
        return
    for face in faces:
        left, top, right, bottom = face.bbox_xyxy
        words = "" if face.is_large_enough else ", too small"
        typer.echo(
            f"face_index {face.face_index}: {face.size_px} px, x {left} to {right}, y {top} to {bottom}{words}"
        )
    if not faces:
        typer.echo("no face was found")


def examine(data_dir: Path) -> list[Finding]:
    """Make all checks; none of them changes anything or uses the network beyond Redis."""
    checks: list[Callable[[], Finding]] = [_check_python, _check_shared_packages]
    if is_installed("service"):
        checks.append(_check_service)
    if is_installed("model") and not is_installed("model.pipelines"):
        # The inspector's image: faces are looked for, nothing is drawn.
        checks.append(_check_mediapipe)
    elif is_installed("model"):
        checks += [
            _check_torch,
            _check_attention,
            _check_model_packages,
            _check_weights,
            _check_mediapipe,
            _check_face_alignment,
        ]
    checks += [_check_ffmpeg, _check_sandbox, check_redis]
    if is_installed("service") or is_installed("model.pipelines"):
        checks.append(lambda: check_signer(data_dir))
    checks.append(lambda: _check_disk(data_dir))
    return [check() for check in checks]


def _check_python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Finding("python", State.OK, found)
    return Finding("python", State.MISSING, found, "Use Python 3.11 or 3.12.")


def _versions(packages: dict[str, str]) -> tuple[list[str], list[str]]:
    """Import modules; names with versions of those that work, and names of those that do not.

    Args:
        packages: Module name to distribution name.
    """
    working, broken = [], []
    for module, distribution in packages.items():
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:  # OSError: a shared library is missing
            broken.append(f"{distribution} ({error})")
        else:
            working.append(f"{distribution} {importlib.metadata.version(distribution)}")
    return working, broken


def _check_packages(name: str, extra: str, packages: dict[str, str]) -> Finding:
    working, broken = _versions(packages)
    if not broken:
        return Finding(name, State.OK, ", ".join(working))
    return Finding(
        name,
        State.MISSING,
        "not importable: " + "; ".join(broken),
        f"Run `make install`, or pip install 'talkface[{extra}]'.",
    )


def _check_shared_packages() -> Finding:
    packages = {
        "redis": "redis",
        "rq": "rq",
        "pydantic": "pydantic",
        "pydantic_settings": "pydantic-settings",
        "structlog": "structlog",
        "PIL": "Pillow",
    }
    return _check_packages("shared packages", "service", packages)


def _check_service() -> Finding:
    packages = {
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "python_multipart": "python-multipart",
        "limits": "limits",
        "prometheus_client": "prometheus-client",
        "standardwebhooks": "standardwebhooks",
    }
    return _check_packages("service", "service", packages)


def _check_model_packages() -> Finding:
    packages = {
        "diffusers": "diffusers",
        "safetensors": "safetensors",
        "librosa": "librosa",
        "soundfile": "soundfile",
        "scipy": "scipy",
        "cv2": "opencv-python-headless",
    }
    return _check_packages("model packages", "worker", packages)


def _check_torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(
            "torch", State.MISSING, str(error), "Run `make install`, or pip install torch."
        )
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("torch", State.OK, f"{torch.__version__} on {', '.join(names)}")
    cores = len(os.sched_getaffinity(0))
    return Finding("torch", State.OK, f"{torch.__version__} on the CPU ({cores} cores)")


def _check_attention() -> Finding:
    try:
        version = importlib.metadata.version("xformers")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "xformers",
            State.OPTIONAL,
            "not installed; torch's own attention is used",
            "On a CUDA machine: pip install 'talkface[gpu]'. A CPU does not need it.",
        )
    return Finding("xformers", State.OK, version)


def _check_weights() -> Finding:
    remedy = "Restore model/weights from the repository, or set TALKFACE_WEIGHTS_DIR."
    try:
        from model.checkpoints import verify_checkpoint
        from model.errors import CheckpointError
    except (ImportError, OSError) as error:
        return Finding("weights", State.MISSING, str(error), "Run `make install`.")
    configured = os.environ.get("TALKFACE_WEIGHTS_DIR")
    try:
        checkpoint = verify_checkpoint(Path(configured) if configured else None)
    except CheckpointError as error:
        return Finding("weights", State.MISSING, str(error), remedy)
    return Finding("weights", State.OK, str(checkpoint))


def _check_ffmpeg() -> Finding:
    remedy = "pip install imageio-ffmpeg, or install ffmpeg and set IMAGEIO_FFMPEG_EXE to its path."
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        binary = str(get_ffmpeg_exe())
        encoders = subprocess.run(
            [binary, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=20
        ).stdout
        version = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20)
    except (ImportError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        return Finding("ffmpeg", State.MISSING, str(error), remedy)
    absent = [name for name in ("libx264", "aac", "flac") if f" {name} " not in encoders]
    if absent:
        return Finding("ffmpeg", State.MISSING, f"{binary} lacks {', '.join(absent)}", remedy)
    words = version.stdout.split()
    return Finding("ffmpeg", State.OK, f"{words[2] if len(words) > 2 else '?'} ({binary})")


def _check_sandbox() -> Finding:
    """What a decoder that was taken over would be kept from here; a child tries it."""
    from worker.contract.intake.confinement import examine, what_is_missing

    fences = examine()
    abi = f"Landlock ABI {fences.landlock_abi}"
    if fences.are_complete:
        return Finding("sandbox", State.OK, f"{abi} and seccomp confine decoders")
    is_required = os.environ.get("TALKFACE_SANDBOX", "warn").lower() == "require"
    return Finding(
        "sandbox",
        State.MISSING if is_required else State.OPTIONAL,
        what_is_missing(fences),
        "Use Linux 5.13 or newer with Landlock and seccomp. TALKFACE_SANDBOX=warn decodes with what "
        "there is, `require` decodes nothing then.",
    )


def _check_mediapipe() -> Finding:
    from model.errors import MissingDependencyError

    try:
        from model.face.detection import MediaPipeFaceDetector

        MediaPipeFaceDetector()
        version = importlib.metadata.version("mediapipe")
    except (ImportError, OSError, MissingDependencyError) as error:
        return Finding(
            "mediapipe",
            State.MISSING,
            str(error),
            "Run `make install` (pip install --no-deps -r requirements/no-deps.txt).",
        )
    return Finding("mediapipe", State.OK, f"{version}, with its face models")


def _check_face_alignment() -> Finding:
    from model.errors import MissingDependencyError

    try:
        from model.face.face_alignment_detector import find_weights

        files = find_weights()
    except (ImportError, MissingDependencyError) as error:
        return Finding(
            "face-alignment",
            State.OPTIONAL,
            str(error),
            "Only for the second detector; mediapipe is the default.",
        )
    version = importlib.metadata.version("face-alignment")
    return Finding("face-alignment", State.OK, f"{version}, weights in {files.boxes.parent}")


def _check_disk(data_dir: Path) -> Finding:
    place = data_dir.resolve()
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    found = f"{free_bytes / 10**9:.1f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", State.MISSING, f"{place} is not writable", "Choose a --data-dir.")
    if free_bytes < MIN_FREE_BYTES:
        return Finding("disk", State.MISSING, found, "Free some space, or choose a --data-dir.")
    return Finding("disk", State.OK, found)


def _print(findings: list[Finding]) -> None:
    colours = {State.OK: "green", State.OPTIONAL: "yellow", State.MISSING: "red"}
    console = Console()
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state.value:<9}[/]"
        console.print(f"{state} {finding.name:<15} {escape(finding.found)}", soft_wrap=True)
        if finding.remedy:
            console.print(f"{'':<25} -> {escape(finding.remedy)}", soft_wrap=True)


if __name__ == "__main__":
    app()
