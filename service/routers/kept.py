"""`/v1/avatars`, `/v1/files`, `/v1/faces`: what is said once and used often, and who is in a picture."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.dependencies import (
    ListerDep,
    PrincipalDep,
    RequestIdDep,
    Resources,
    ResourcesDep,
    WriterDep,
)
from service.keeping import AvatarKeeping, FileKeeping, Looking
from service.kept_files import find_kept
from service.problems import ProblemError, problem_responses
from service.query_parameters import check_known_parameters
from service.schemas.form import request_body
from service.schemas.kept import (
    AVATAR,
    FACES,
    FILE,
    AvatarForm,
    AvatarPage,
    AvatarPublic,
    FacePublic,
    FacesForm,
    FacesPublic,
    FileForm,
    FilePage,
    FilePublic,
)
from service.schemas.problem import FieldError
from service.waiting import preferred_wait_s
from worker.contract.assets import Asset, AssetKind, AssetState
from worker.contract.errors import ErrorCode
from worker.contract.presence import ProcessKind

router = APIRouter()

FACES_WAIT_S: Final = 45.0
"""How long an answer about faces may take. A face is found in a fraction of a second; that there is none takes
seconds on a busy machine, since a large picture is searched piece by piece."""
_LOOK_EVERY_S: Final = (0.02, 0.25)
_UPLOAD_PROBLEMS: Final = (
    *("malformed_request", "file_too_large", "unsupported_media_type", "undecodable_media"),
    *("concurrency_limited", "quota_exceeded", "queue_full", "insufficient_storage"),
    "media_refused",
)
_KEY_PROBLEMS: Final = ("idempotency_conflict", "idempotency_in_progress")
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A word of your own for this request. Sent again within 24 h with the same file, "
        "the same thing is the answer.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100, description="Most of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=100, description="`next_cursor` of the page before.")
]


def _created(example: dict[str, Any], what: str) -> dict[int | str, dict[str, Any]]:
    return {
        201: {
            "description": what,
            "content": {"application/json": {"example": example}},
            "headers": {
                "Location": {"description": "Where it is.", "schema": {"type": "string"}},
                "Idempotency-Replayed": {
                    "description": "`true` where an earlier request with this key made it.",
                    "schema": {"type": "string"},
                },
            },
        }
    }


# --- avatars ----------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/avatars",
    tags=["avatars"],
    status_code=201,
    summary="Keep a portrait or a film to animate it again and again",
    openapi_extra={"requestBody": request_body(AvatarForm)},
    responses={
        **_created(AVATAR, "It is stored, and is prepared"),
        **problem_responses(
            *_UPLOAD_PROBLEMS,
            *_KEY_PROBLEMS,
            *("video_too_short", "video_too_long", "face_too_small"),
        ),
    },
)
async def create_avatar(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: WriterDep,
    request_id: RequestIdDep,
    idempotency_key: IdempotencyKeyHeader = None,
    prefer: Annotated[
        str,
        Header(
            max_length=200,
            description="`wait=30`: answer when it is prepared, or after so many seconds (at most 60) "
            "as it stands then.",
        ),
    ] = "",
) -> AvatarPublic:
    """Check a portrait or a film once: it is decoded, and its faces are found, and jobs need do neither.

    Its `id` is the `avatar_id` of any number of jobs, also while it is still prepared. It is erased by
    its retention or by DELETE; jobs have what they need of it for themselves.
    """
    keeping = AvatarKeeping(request, principal, request_id, idempotency_key, resources)
    accepted = await keeping.run()
    asset = accepted.record
    if (wait_s := preferred_wait_s(prefer)) > 0:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        asset = await _prepared(asset, resources, wait_s, request) or asset
    _say_where(response, resources, f"avatars/{asset.id}", accepted.is_replayed)
    return AvatarPublic.of(asset, request_id)


@router.get(
    "/v1/avatars",
    tags=["avatars"],
    summary="Your avatars, newest first",
    responses=problem_responses(),
)
def list_avatars(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: ListerDep,
    request_id: RequestIdDep,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> AvatarPage:
    """A page of them."""
    check_known_parameters(request)
    response.headers["Cache-Control"] = "no-store"
    page, next_cursor = _page(resources, AssetKind.AVATAR, principal.id, limit, cursor)
    return AvatarPage(
        data=[AvatarPublic.of(one, request_id) for one in page], next_cursor=next_cursor
    )


@router.get(
    "/v1/avatars/{avatar_id}",
    tags=["avatars"],
    summary="How an avatar stands",
    responses=problem_responses("avatar_not_found"),
)
def get_avatar(
    avatar_id: Annotated[str, Path(description="The `id` of an avatar.")],
    response: Response,
    resources: ResourcesDep,
    principal: PrincipalDep,
    request_id: RequestIdDep,
) -> AvatarPublic:
    """Its state, its faces, and why it cannot be used if it cannot."""
    response.headers["Cache-Control"] = "no-store"
    asset = find_kept(AssetKind.AVATAR, avatar_id, principal, resources)
    return AvatarPublic.of(asset, request_id)


@router.delete(
    "/v1/avatars/{avatar_id}",
    tags=["avatars"],
    status_code=204,
    summary="Erase an avatar",
    response_class=Response,
    responses={
        204: {"description": "Its files are erased"},
        **problem_responses("avatar_not_found"),
    },
)
def delete_avatar(
    avatar_id: Annotated[str, Path(description="The `id` of an avatar.")],
    resources: ResourcesDep,
    principal: WriterDep,
    request_id: RequestIdDep,
) -> Response:
    """Jobs that were made with it go on, and keep what they need until they end."""
    asset = find_kept(AssetKind.AVATAR, avatar_id, principal, resources)
    _erase(asset, resources, principal.id, request_id)
    return Response(status_code=204)


# --- files ------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/files",
    tags=["files"],
    status_code=201,
    summary="Keep a voice to use it again and again",
    openapi_extra={"requestBody": request_body(FileForm)},
    responses={
        **_created(FILE, "It is decoded and stored"),
        **problem_responses(*_UPLOAD_PROBLEMS, *_KEY_PROBLEMS, "audio_too_short", "audio_too_long"),
    },
)
async def create_file(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: WriterDep,
    request_id: RequestIdDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> FilePublic:
    """Its `id` is the `audio_id` of any number of jobs. It is erased by its retention or by DELETE."""
    keeping = FileKeeping(request, principal, request_id, idempotency_key, resources)
    accepted = await keeping.run()
    _say_where(response, resources, f"files/{accepted.record.id}", accepted.is_replayed)
    return FilePublic.of(accepted.record)


@router.get(
    "/v1/files", tags=["files"], summary="Your files, newest first", responses=problem_responses()
)
def list_files(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: ListerDep,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> FilePage:
    """A page of them."""
    check_known_parameters(request)
    response.headers["Cache-Control"] = "no-store"
    page, next_cursor = _page(resources, AssetKind.FILE, principal.id, limit, cursor)
    return FilePage(data=[FilePublic.of(one) for one in page], next_cursor=next_cursor)


@router.get(
    "/v1/files/{file_id}",
    tags=["files"],
    summary="What a file is",
    responses=problem_responses("file_not_found"),
)
def get_file(
    file_id: Annotated[str, Path(description="The `id` of a file.")],
    response: Response,
    resources: ResourcesDep,
    principal: PrincipalDep,
) -> FilePublic:
    """Its length, what was mended, and when it is erased."""
    response.headers["Cache-Control"] = "no-store"
    return FilePublic.of(find_kept(AssetKind.FILE, file_id, principal, resources))


@router.delete(
    "/v1/files/{file_id}",
    tags=["files"],
    status_code=204,
    summary="Erase a file",
    response_class=Response,
    responses={
        204: {"description": "Its files are erased"},
        **problem_responses("file_not_found"),
    },
)
def delete_file(
    file_id: Annotated[str, Path(description="The `id` of a file.")],
    resources: ResourcesDep,
    principal: WriterDep,
    request_id: RequestIdDep,
) -> Response:
    """Jobs that were made with it go on, and keep what they need until they end."""
    asset = find_kept(AssetKind.FILE, file_id, principal, resources)
    _erase(asset, resources, principal.id, request_id)
    return Response(status_code=204)


# --- faces ------------------------------------------------------------------------------------------------------------


@router.post(
    "/v1/faces",
    tags=["faces"],
    summary="The faces in a picture, before a job is made of it",
    openapi_extra={"requestBody": request_body(FacesForm)},
    responses={
        200: {
            "description": "Whom `face_index` would mean, and who would be refused",
            "content": {"application/json": {"example": FACES}},
        },
        **problem_responses(*_UPLOAD_PROBLEMS, "face_too_small", "not_ready"),
    },
)
async def find_faces(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    principal: WriterDep,
    request_id: RequestIdDep,
) -> FacesPublic:
    """The inspector looks at it as it looks at the picture of a job; nothing is kept."""
    response.headers["Cache-Control"] = "no-store"
    # Told before the picture is sent.
    inspectors = resources.ledger.presence.count
    if await run_in_threadpool(inspectors, ProcessKind.INSPECTOR) == 0:
        raise _nobody_looks()
    looking = Looking(request, principal, request_id, None, resources)
    asset = (await looking.run()).record
    try:
        seen = await _prepared(asset, resources, FACES_WAIT_S, request)
    finally:
        await run_in_threadpool(_erase, asset, resources, principal.id, request_id)
    if seen is None or seen.state is AssetState.PREPARING or seen.image is None:
        raise _nobody_looks()
    if seen.failure is not None:
        raise ProblemError(seen.failure.code, seen.failure.detail, params=seen.failure.params)
    faces = [FacePublic.of(face) for face in seen.faces or ()]
    return FacesPublic(width=seen.image.width, height=seen.image.height, faces=faces)


def _nobody_looks() -> ProblemError:
    return ProblemError(
        ErrorCode.NOT_READY,
        "Nobody looks for faces at the moment: no inspector (`python -m worker.inspection`) answers. "
        "A job finds the face all the same; or try again shortly.",
        headers={"Retry-After": "5"},
    )


# ----------------------------------------------------------------------------------------------------------------------


async def _prepared(
    asset: Asset, resources: Resources, wait_s: float, request: Request
) -> Asset | None:
    """The asset when it is prepared, or as it stands after a while; None if it is gone."""
    until, pause_s = time.monotonic() + wait_s, _LOOK_EVERY_S[0]
    found: Asset | None = asset
    while found is not None and found.state is AssetState.PREPARING:
        if time.monotonic() >= until or await request.is_disconnected():
            break
        await asyncio.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _LOOK_EVERY_S[1])
        found = await run_in_threadpool(resources.assets.get, asset.id)
    return found


def _page(
    resources: Resources, kind: AssetKind, principal: str, limit: int, cursor: str | None
) -> tuple[list[Asset], str | None]:
    before: float | None = None
    if cursor is not None:
        try:
            before = datetime.fromisoformat(cursor).timestamp()
        except ValueError:
            message = "expected the next_cursor of the page before"
            raise ProblemError(
                ErrorCode.INVALID_OPTIONS,
                f"The cursor is not valid: {message}.",
                errors=[FieldError(field="cursor", message=message)],
            ) from None
    found = resources.assets.list(kind, principal, before=before, limit=limit + 1)
    page = found[:limit]
    more = len(found) > limit
    return page, page[-1].created_at.isoformat() if more else None


def _erase(asset: Asset, resources: Resources, by: str, request_id: str) -> None:
    if asset.kind is not AssetKind.LOOK:
        resources.audit.write("erased", asset.id, by=by, request_id=request_id)
    # The registry first: should this process end in between, the sweep finds files of nobody.
    resources.assets.delete(asset)
    resources.artifacts.delete_prefix(asset.prefix)


def _say_where(response: Response, resources: Resources, path: str, is_replayed: bool) -> None:
    base_url = (resources.settings.public_url or "").rstrip("/")
    response.headers["Location"] = f"{base_url}/v1/{path}"
    response.headers["Cache-Control"] = "no-store"
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
