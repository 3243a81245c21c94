"""`POST /v1/verify`: what a file says of itself, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.dependencies import PrincipalDep, Resources, ResourcesDep
from service.problems import ProblemError, problem_responses
from service.provenance.reading import verify_file
from service.provenance.trust import Trust
from service.provenance.verdict import Verification
from worker.contract.artifacts import full_volume
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.key_file import read_key
from worker.contract.signing import SignerGoneError, SigningError
from worker.contract.watermark import watermark_key_path

router = APIRouter(tags=["verification"])

_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The file itself, as it is; no form.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("video/mp4", "application/octet-stream")
    },
}


@router.post(
    "/v1/verify",
    summary="Whether a file is one of ours, changed or somebody else's",
    # Not a parameter: the framework would hold the whole body in memory.
    openapi_extra={"requestBody": _BODY},
    responses=problem_responses(
        "file_too_large", "undecodable_media", "queue_full", "not_ready", "insufficient_storage"
    ),
)
async def verify(
    request: Request, response: Response, resources: ResourcesDep, _reader: PrincipalDep
) -> Verification:
    """Read the Content Credentials (C2PA) of a video, a picture or a sound, whoever made it.

    Send the file as the body: `curl --data-binary @clip.mp4`. The file is kept nowhere.
    """
    response.headers["Cache-Control"] = "no-store"
    # A signer that is not there is told before the file is sent.
    trust = await run_in_threadpool(_trust, resources)
    keys = await run_in_threadpool(_watermark_keys, resources)
    scratch = resources.artifacts.scratch()
    folder = await run_in_threadpool(scratch.__enter__)
    try:
        limit_bytes = resources.settings.max_video_bytes
        path = folder / "file"
        await _receive(request, resources, path, limit_bytes)
        return await to_thread.run_sync(
            lambda: verify_file(
                path, trust, limit_bytes=limit_bytes, watermark_keys=keys, folder=folder
            ),
            limiter=resources.accept_limiter,
        )
    finally:
        await run_in_threadpool(scratch.__exit__, None, None, None)


def _trust(resources: Resources) -> Trust:
    try:
        told = resources.signer.trust()
    except (SignerGoneError, SigningError):
        raise ProblemError(
            ErrorCode.NOT_READY,
            "The signer does not answer, so nobody can say which files are ours. Try again shortly.",
        ) from None
    return Trust(told.anchors, told.other_anchors, told.other_serials, told.clock_anchors)


def _watermark_keys(resources: Resources) -> list[bytes]:
    """The installation's, if it ever marked a video; also where it does so no longer."""
    settings = resources.settings
    path = watermark_key_path(settings.data_dir, settings.watermark_key_file)
    return [read_key(path)] if path.exists() else []


async def _receive(request: Request, resources: Resources, path: Path, limit_bytes: int) -> None:
    """Write the body to a file."""
    num_bytes = 0
    with resources.receiving.body() as count, full_volume(), path.open("xb") as out:
        async for piece in request.stream():
            count(len(piece))
            num_bytes += len(piece)
            if num_bytes > limit_bytes:
                raise IntakeError(
                    ErrorCode.FILE_TOO_LARGE,
                    f"The file has more than {limit_bytes} bytes, which is the limit. Verify it with "
                    "`talkface verify`, which has none.",
                    {"limit_bytes": limit_bytes},
                )
            await run_in_threadpool(out.write, piece)
