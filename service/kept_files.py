"""What a caller kept here takes the place of uploads: its files are linked into the request's folder.

Links, not references: from then on the job has files of its own, and the avatar or file may be erased
at any moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from service.dependencies import Resources
from service.job_form import Received
from service.problems import ProblemError
from service.schemas.problem import FieldError
from service.security import Principal
from worker.contract.artifacts import ArtifactNotFoundError, fetch_copy
from worker.contract.assets import Asset, AssetKind, AssetState
from worker.contract.errors import ErrorCode
from worker.contract.intake.file_names import FACES
from worker.contract.intake.uploads import Ready

_NOT_FOUND: Final = {
    AssetKind.AVATAR: (ErrorCode.AVATAR_NOT_FOUND, "avatar_id", "There is no avatar of this id."),
    AssetKind.FILE: (ErrorCode.FILE_NOT_FOUND, "audio_id", "There is no file of this id."),
}


def find_kept(kind: AssetKind, asset_id: str, principal: Principal, resources: Resources) -> Asset:
    """An avatar or file that is the caller's business; blocks.

    Raises:
        ProblemError: avatar_not_found, file_not_found; also for one of someone else.
    """
    asset = resources.assets.get(asset_id)
    if asset is None or asset.kind is not kind or not principal.may_see(asset_id, asset.principal):
        raise not_found(kind)
    return asset


def not_found(kind: AssetKind) -> ProblemError:
    """What is said of an id that leads nowhere."""
    code, field, detail = _NOT_FOUND[kind]
    return ProblemError(code, detail, errors=[FieldError(field=field, message=detail)])


def use_kept(
    received: Received, principal: Principal, resources: Resources, folder: Path
) -> dict[str, str | bool]:
    """Link the files of the avatar and the file that a form names; blocks.

    Args:
        received: The form; gets the files.
        principal: Who asks.
        resources: The process's.
        folder: Of the request.

    Returns:
        What the job's input says of it.

    Raises:
        ProblemError: avatar_not_found, file_not_found; why the avatar cannot be used.
        StorageFullError: The volume has no room.
    """
    told: dict[str, str | bool] = {}
    wanted = {
        AssetKind.AVATAR: received.options.avatar_id,
        AssetKind.FILE: received.options.audio_id,
    }
    for kind, asset_id in wanted.items():
        if asset_id is None:
            continue
        asset = find_kept(kind, asset_id, principal, resources)
        if asset.state is AssetState.FAILED and asset.failure is not None:
            failure = asset.failure
            raise ProblemError(
                failure.code,
                failure.detail,
                params=failure.params,
                errors=[FieldError(field="avatar_id", message=failure.detail)],
            )
        try:
            _link(received, asset, resources, folder)
        except ArtifactNotFoundError:
            # Erased at this moment.
            raise not_found(kind) from None
        if kind is AssetKind.AVATAR:
            told |= {"avatar_id": asset_id, "has_faces": asset.has_faces_file}
        else:
            told["audio_id"] = asset_id
    return told


def _link(received: Received, asset: Asset, resources: Resources, folder: Path) -> None:
    path = folder / f"kept-{asset.field}"
    names = {asset.upload_file: path, **{name: folder / name for name in asset.normalised_files}}
    if asset.has_faces_file:
        names[FACES] = folder / FACES
    for name, target in names.items():
        fetch_copy(resources.artifacts, f"{asset.prefix}/{name}", target)
    received.kept[asset.field] = (path, asset.sha256)
    ready = received.ready
    received.ready = Ready(
        audio=asset.audio or ready.audio,
        image=asset.image or ready.image,
        # Until it is decoded its size is not known, and a job decodes it for itself.
        video=(asset.video if asset.pending is None else None) or ready.video,
    )
