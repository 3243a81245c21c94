"""Decodes the files of a job that were stored as they came, once, whoever does it.

The validator does it before anybody renders; where there is none, the renderer does. Both write the
same files, and `validated.json` last, which says that all of them are there.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from worker.contract.artifacts import ArtifactExistsError, ArtifactNotFoundError, ArtifactStore
from worker.contract.assets import Asset
from worker.contract.errors import of_field
from worker.contract.intake.entry import decode_pending
from worker.contract.intake.file_names import VIDEO, decoded_files, upload_name
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.videos import accept_video
from worker.contract.ledger import Ledger
from worker.contract.messages import JobInput, JobRecord, VideoInput


def decode_uploads(
    store: ArtifactStore, record: JobRecord, on_wait: Callable[[], None]
) -> JobInput:
    """Decode and store what is pending of a job, unless that was done before.

    Args:
        store: Where the files are.
        record: The job.
        on_wait: Called while a file is decoded; what it raises stops that.

    Returns:
        The input with nothing pending.

    Raises:
        IntakeError: A file cannot be used.
        ArtifactNotFoundError: A file is gone.
        StorageFullError: The volume has no room.
    """
    pending, prefix = record.input.pending, f"inputs/{record.id}"
    if pending is None:
        return record.input
    with (
        contextlib.suppress(ArtifactNotFoundError),
        store.local_copy(f"{prefix}/validated.json") as path,
    ):
        return JobInput.model_validate_json(path.read_text())
    with store.scratch() as folder, ExitStack() as stack:

        def path_of(name: str) -> Path:
            return stack.enter_context(store.local_copy(f"{prefix}/{name}"))

        decoded = decode_pending(record.input, path_of, folder, on_wait)
        (folder / "validated.json").write_text(decoded.model_dump_json(exclude_defaults=True))
        for name in (*decoded_files(pending), "validated.json"):
            # Whoever was here before and died made the same file from the same upload.
            with contextlib.suppress(ArtifactExistsError):
                store.put(f"{prefix}/{name}", folder / name)
    return decoded


def settle_files(store: ArtifactStore, ledger: Ledger, record: JobRecord) -> None:
    """Keep what a decoded job needs and nothing else, and count its bytes.

    The uploads as they came are needed no more; and where the job has ended meanwhile, its decoded
    files may have come after the moment when its media were erased.
    """
    prefix, pending = f"inputs/{record.id}", record.input.pending
    if pending is None:
        return
    unneeded = [upload_name(name) for name in pending.files]
    if ledger.has_ended(record.id):
        unneeded += [*decoded_files(pending), "validated.json"]
    for name in unneeded:
        store.delete(f"{prefix}/{name}")
    sizes = (store.stat(f"{prefix}/{name}").bytes for name in store.names(prefix))
    ledger.set_stored_bytes(record.id, sum(sizes))


def decode_film(
    store: ArtifactStore, asset: Asset, on_wait: Callable[[], None]
) -> Callable[[Asset], Asset]:
    """Decode the film of an avatar, and store it beside it as a job has it.

    Args:
        store: Where the files are.
        asset: An avatar that is pending.
        on_wait: Called while it is decoded; what it raises stops that.

    Returns:
        How the avatar changes.

    Raises:
        IntakeError: It cannot be used.
        ArtifactNotFoundError: It was deleted.
        StorageFullError: The volume has no room.
    """
    pending = asset.pending
    assert pending is not None, "only what is pending is decoded"
    limits = IntakeLimits(
        # The number of bytes was judged when the request came.
        max_video_bytes=sys.maxsize,
        max_video_s=pending.max_video_s,
        max_side=pending.max_side,
        background=pending.background,
    )
    with (
        store.scratch() as folder,
        store.local_copy(f"{asset.prefix}/{asset.upload_file}") as upload,
        of_field("video"),
    ):
        info = accept_video(upload, folder / VIDEO, limits, what="video", on_wait=on_wait)
        with contextlib.suppress(ArtifactExistsError):
            store.put(f"{asset.prefix}/{VIDEO}", folder / VIDEO)
    video = VideoInput(**asdict(info))
    return lambda one: one.model_copy(update={"video": video, "pending": None})
