"""The checkpoint folder: where it lies, what belongs into it, and that not a byte of it has changed.

    model/weights/
      model_index.json  scheduler/                   a saved diffusers pipeline ...
      autoencoder/  unet/  reference_encoder/  landmark_completer/
      detail/  head_flow/                            ... without which less is drawn, and heads are still
      inner_mouths/                                  ... the portrait engine's pictures
      manifest.json                                  name, version and the sha256 of every file above
      README.md                                      the model card, free to be corrected

Nothing here imports torch: `talkface doctor` and a worker's start can afford the check.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.errors import CheckpointError

SHIPPED: Final = Path(__file__).resolve().parent / "weights"
"""The checkpoint that comes with the package."""
MANIFEST_NAME: Final = "manifest.json"
INNER_MOUTHS: Final = "inner_mouths"
HEAD_FLOW: Final = "head_flow"
PARTS: Final = (
    "model_index.json",
    "autoencoder",
    "unet",
    "reference_encoder",
    "landmark_completer",
    "scheduler",
    INNER_MOUTHS,
)
"""Files and folders without which nothing can be drawn."""
OPTIONAL_PARTS: Final = ("detail", HEAD_FLOW)
"""Folders that an older checkpoint lacks; what they do is then left out."""

_FORMAT: Final = 1
_UNLISTED: Final = {MANIFEST_NAME, "README.md"}


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint folder claims to hold.

    Attributes:
        folder: The checkpoint.
        model_name: Name for results and logs.
        version: Version of the weights.
        files: Path within the folder, with slashes, to sha256; sorted.
        total_bytes: Size of those files.
    """

    folder: Path
    model_name: str
    version: str
    files: dict[str, str]
    total_bytes: int

    @property
    def weights_sha256(self) -> str:
        """One digest of all files: sha256 over `<sha256>  <path>` lines, as `sha256sum` prints them."""
        lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def __str__(self) -> str:
        return (
            f"{self.model_name} {self.version}, {self.total_bytes / 1e6:.1f} MB in "
            f"{len(self.files)} files, sha256 {self.weights_sha256[:12]}, {self.folder}"
        )


def resolve(path: Path | None) -> Path:
    """The checkpoint folder that is meant.

    Args:
        path: A folder, or None for the checkpoint that ships.
    Raises:
        CheckpointError: There is no such folder.
    """
    folder = SHIPPED if path is None else path
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; expected a checkpoint with {MANIFEST_NAME}. "
            "Restore model/weights from the repository or name another checkpoint."
        )
    return folder


def verify_checkpoint(path: Path | None = None) -> Manifest:
    """Read the manifest and compare every file with it.

    Args:
        path: A checkpoint folder, or None for the one that ships.
    Raises:
        CheckpointError: A part is missing, or a file is not the one that the manifest lists.
    """
    folder = resolve(path)
    manifest = _read_manifest(folder)
    for part in PARTS:
        if not any(name == part or name.startswith(f"{part}/") for name in manifest.files):
            raise CheckpointError(
                f"{folder / MANIFEST_NAME} lists nothing of {part}; expected {', '.join(PARTS)}. "
                "Pack the checkpoint again with `python -m model.training.builders.export`."
            )
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing; expected a file with sha256 {expected}. {_restore(folder)}"
            )
        got = _sha256(file)
        if got != expected:
            raise CheckpointError(
                f"{file} has been altered: its sha256 is {got}; expected {expected}. "
                f"{_restore(folder)}"
            )
    return manifest


def write_manifest(folder: Path, *, model_name: str, version: str) -> Manifest:
    """List all files of `folder` in its manifest, model card excepted.

    Args:
        folder: A complete checkpoint.
        model_name: Name for results and logs.
        version: Version of the weights.
    Raises:
        CheckpointError: `folder` is not a folder.
    """
    paths = [path for path in sorted(resolve(folder).rglob("*")) if path.is_file()]
    listed = {path.relative_to(folder).as_posix(): path for path in paths}
    for name in [name for name in listed if name in _UNLISTED or "__pycache__" in name]:
        del listed[name]
    manifest = Manifest(
        folder,
        model_name,
        version,
        {name: _sha256(path) for name, path in listed.items()},
        sum(path.stat().st_size for path in listed.values()),
    )
    table = {
        "format": _FORMAT,
        "model_name": model_name,
        "version": version,
        "weights_sha256": manifest.weights_sha256,
        "files": manifest.files,
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(table, indent=2) + "\n")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    file = folder / MANIFEST_NAME
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no {MANIFEST_NAME}; expected a packed checkpoint. {_restore(folder)}"
        )
    try:
        table: dict[str, Any] = json.loads(file.read_text())
        files = {str(name): str(digest) for name, digest in table["files"].items()}
        name, version, form = str(table["model_name"]), str(table["version"]), table["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not a manifest ({type(error).__name__}: {error}); expected JSON with "
            f"format, model_name, version and files. {_restore(folder)}"
        ) from error
    if form != _FORMAT:
        raise CheckpointError(
            f"{file} has format {form}; expected {_FORMAT}. Use the version of talkface that the "
            "checkpoint was made for."
        )
    inside = folder.resolve()
    for listed in files:
        if not (folder / listed).resolve().is_relative_to(inside):
            raise CheckpointError(
                f"{file} lists {listed}, which lies outside the checkpoint; expected paths within "
                f"it. {_restore(folder)}"
            )
    total = sum((folder / name).stat().st_size for name in files if (folder / name).is_file())
    return Manifest(folder, name, version, dict(sorted(files.items())), total)


def _restore(folder: Path) -> str:
    if folder == SHIPPED:
        return "Restore model/weights from the repository."
    return "Copy the checkpoint again, or pack it with `python -m model.training.builders.export`."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
