"""Avatars, files and faces as a client sees them, and the forms that make them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from service.problems import problem_of_failure
from service.schemas.problem import Problem
from worker.contract.assets import Asset, AssetState, FoundFace
from worker.contract.errors import ErrorCode
from worker.contract.intake.formats import types_of
from worker.contract.messages import AudioInput, ImageInput, VideoInput

_ID: Final = "7d0f6c1e2b3a49588c7d6e5f4a3b2c1d"
_FACE: Final[dict[str, Any]] = {
    "index": 0,
    "box": [0.294, 0.2153, 0.6855, 0.6396],
    "size_px": 434.5,
    "refused": None,
    "detail": None,
}
AVATAR: Final[dict[str, Any]] = {
    "id": _ID,
    "object": "avatar",
    "state": "ready",
    "created_at": "2026-11-29T10:00:00Z",
    "expires_at": "2026-12-06T10:00:00Z",
    "bytes": 1380211,
    "image": {
        "width": 1024,
        "height": 1024,
        "format": "jpeg",
        "bytes": 183000,
        "sha256": "a" * 64,
        "has_original": False,
    },
    "video": None,
    "faces": [_FACE],
    "error": None,
}
FILE: Final[dict[str, Any]] = {
    "id": _ID,
    "object": "file",
    "created_at": "2026-11-29T10:00:00Z",
    "expires_at": "2026-12-06T10:00:00Z",
    "bytes": 812331,
    "audio": {
        "seconds": 10.0,
        "sample_rate_hz": 48000,
        "channels": 1,
        "format": "wav",
        "bytes": 960044,
        "sha256": "c" * 64,
        "notes": [],
    },
}
FACES: Final[dict[str, Any]] = {
    "object": "faces",
    "width": 1024,
    "height": 1024,
    "faces": [
        _FACE,
        {
            "index": 1,
            "box": [0.7321, 0.31, 0.8412, 0.4325],
            "size_px": 125.4,
            "refused": "mouth_not_visible",
            "detail": "No mouth can be made out in the face in the picture.",
        },
    ],
}


class FacePublic(BaseModel):
    """A face that was found."""

    index: int = Field(description="What `face_index` calls it; 0 is the largest.")
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom as shares of the picture's width and height."
    )
    size_px: float = Field(description="Longer side in pixels of the picture as it is animated.")
    refused: ErrorCode | None = Field(
        description="Why a job with this face would fail; null if it would not."
    )
    detail: str | None = Field(description="The same as a sentence.")

    @classmethod
    def of(cls, face: FoundFace) -> FacePublic:
        """A face as the registry has it."""
        return cls.model_validate(face.model_dump())


class FacesPublic(BaseModel):
    """`POST /v1/faces`."""

    model_config = ConfigDict(json_schema_extra={"examples": [FACES]})

    object: Literal["faces"] = "faces"
    width: int = Field(description="Of the picture as it would be animated, in pixels.")
    height: int
    faces: list[FacePublic] = Field(description="Largest first; none where nobody was found.")


class AvatarPublic(BaseModel):
    """`GET /v1/avatars/<id>`."""

    model_config = ConfigDict(json_schema_extra={"examples": [AVATAR]})

    id: str
    object: Literal["avatar"] = "avatar"
    state: AssetState = Field(
        description="`preparing`: it can be used, and gains nothing yet; `ready`; `failed`, with `error`."
    )
    created_at: datetime
    expires_at: datetime | None = Field(description="When it is erased.")
    bytes: int = Field(description="Size of all its files.")
    image: ImageInput | None
    video: VideoInput | None
    faces: list[FacePublic] | None = Field(
        description="Of the picture, or of the film's first frame with a face; null before anybody looked."
    )
    error: Problem | None

    @classmethod
    def of(cls, asset: Asset, request_id: str) -> AvatarPublic:
        """An avatar as its owner sees it."""
        failure = asset.failure
        return cls(
            id=asset.id,
            state=asset.state,
            created_at=asset.created_at,
            expires_at=asset.expires_at,
            bytes=asset.stored_bytes,
            image=asset.image,
            video=asset.video,
            faces=None if asset.faces is None else [FacePublic.of(face) for face in asset.faces],
            error=None if failure is None else problem_of_failure(failure, request_id),
        )


class FilePublic(BaseModel):
    """`GET /v1/files/<id>`."""

    model_config = ConfigDict(json_schema_extra={"examples": [FILE]})

    id: str
    object: Literal["file"] = "file"
    created_at: datetime
    expires_at: datetime | None = Field(description="When it is erased.")
    bytes: int = Field(description="Size of all its files.")
    audio: AudioInput

    @classmethod
    def of(cls, asset: Asset) -> FilePublic:
        """A file as its owner sees it."""
        assert asset.audio is not None, "files are sounds"
        return cls(
            id=asset.id,
            created_at=asset.created_at,
            expires_at=asset.expires_at,
            bytes=asset.stored_bytes,
            audio=asset.audio,
        )


class AvatarPage(BaseModel):
    """`GET /v1/avatars`: the caller's avatars, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "list", "data": [AVATAR], "next_cursor": None}]}
    )

    object: Literal["list"] = "list"
    data: list[AvatarPublic]
    next_cursor: str | None = Field(description="Send it as `cursor` for what is older.")


class FilePage(BaseModel):
    """`GET /v1/files`: the caller's files, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "list", "data": [FILE], "next_cursor": None}]}
    )

    object: Literal["list"] = "list"
    data: list[FilePublic]
    next_cursor: str | None = Field(description="Send it as `cursor` for what is older.")


class KeptOptions(BaseModel):
    """The fields that are text; one that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_s: Annotated[
        int | None,
        Field(
            ge=1,
            le=365 * 86_400,
            description="Seconds from now until it is erased; at most, and by default, what your key "
            "or the deployment allows.",
        ),
    ] = None


class AvatarOptions(KeptOptions):
    """Those of an avatar."""

    consent: Annotated[
        Literal["stated"] | None,
        Field(
            description="`stated`: you say that the person in the picture or video agreed. Some "
            "deployments require it, here and for each job."
        ),
    ] = None


class AvatarForm(AvatarOptions):
    """Exactly one of `image` and `video`."""

    image: Annotated[UploadFile | None, Field(description=f"A portrait: {types_of('image')}.")] = (
        None
    )
    video: Annotated[
        UploadFile | None, Field(description=f"A video to dub: {types_of('video')}.")
    ] = None


class FileForm(KeptOptions):
    """A voice."""

    audio: Annotated[UploadFile, Field(description=f"The voice: {types_of('audio')}.")]


class NoOptions(BaseModel):
    """Nothing but a file is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FacesForm(NoOptions):
    """A picture."""

    image: Annotated[UploadFile, Field(description=f"The picture: {types_of('image')}.")]
