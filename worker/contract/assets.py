"""What a caller keeps here to use it again and again, as messages: a voice, a portrait or a film.

An avatar is a portrait or a film as it was sent, and beside it what every job would compute anew: the
normalised pictures, and the faces in them. It may be used before that is done; then the job does it.

    assets/<id>/upload-image | upload-video | upload-audio      as it was sent
    assets/<id>/input.png, original.jpg | input.mkv             normalised, as a job has it
    assets/<id>/speech.flac, sound.flac                         of a voice
    assets/<id>/faces.npz                                       what the detector found (model.face.remembered_faces)
    assets/<id>/asset.json                                      from which `talkface rebuild` brings it back
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from worker.contract.errors import ErrorCode
from worker.contract.intake.file_names import FILES_OF, ORIGINAL, PORTRAIT, upload_name
from worker.contract.message import Message
from worker.contract.messages import AudioInput, ImageInput, JobFailure, Pending, VideoInput

ASSET: Final = "asset.json"

DeskName = Literal["decode", "inspect"]
Box = tuple[float, float, float, float]


class AssetKind(StrEnum):
    """What it is kept for."""

    FILE = "file"
    AVATAR = "avatar"
    LOOK = "look"
    """A picture whose faces are asked for; gone with the answer."""


class AssetState(StrEnum):
    """Where it stands."""

    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"


class FoundFace(Message):
    """A face in a picture, or in the first frame of a film that shows one.

    Args:
        index: What `face_index` calls it; 0 is the largest.
        box: Left, top, right and bottom as shares of the picture's width and height.
        size_px: Its longer side in pixels of the normalised picture.
        refused: Why a job with it would be refused, None if it would not be.
        detail: The same as a sentence.
    """

    index: int
    box: Box
    size_px: float
    refused: ErrorCode | None = None
    detail: str | None = None


class Asset(Message):
    """One thing that is kept.

    Args:
        id: 32 hexadecimal digits.
        kind: What it is kept for.
        state: Where it stands; `failed` for ever, with `failure`.
        principal: Whose it is; None where nobody has a key.
        share: Under what name its bytes are counted.
        created_at: When it was accepted.
        expires_at: When it is erased; None = never.
        stored_bytes: Size of its files.
        audio: The voice.
        image: The portrait.
        video: The film; without size and length until it is decoded.
        pending: How the film is to be decoded; None when it is.
        faces: Largest first; None before anybody looked.
        has_faces_file: `faces.npz` is there.
        failure: Why it cannot be used.
        tries: How often somebody began to prepare it.
        idempotency: The key that leads to it, as it is stored.
    """

    id: str
    kind: AssetKind
    state: AssetState
    principal: str | None = None
    share: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    stored_bytes: int = 0
    audio: AudioInput | None = None
    image: ImageInput | None = None
    video: VideoInput | None = None
    pending: Pending | None = None
    faces: tuple[FoundFace, ...] | None = None
    has_faces_file: bool = False
    failure: JobFailure | None = None
    tries: int = Field(default=0, ge=0)
    idempotency: str | None = None

    @property
    def prefix(self) -> str:
        """Where its files lie in the artifact store."""
        return f"assets/{self.id}"

    @property
    def field(self) -> Literal["audio", "image", "video"]:
        """The form field that it stands for."""
        if self.audio is not None:
            return "audio"
        return "video" if self.video is not None else "image"

    @property
    def sha256(self) -> str:
        """Digest of the bytes as they came."""
        told = self.audio or self.image or self.video
        assert told is not None, "an asset is something"
        return told.sha256

    @property
    def desk(self) -> DeskName | None:
        """Who has to do something for it next."""
        if self.state is not AssetState.PREPARING:
            return None
        return "inspect" if self.pending is None else "decode"

    @property
    def normalised_files(self) -> list[str]:
        """Names of its files that a job has under the same names."""
        if self.field != "image":
            decoded = self.pending is None
            return list(FILES_OF[self.field]) if decoded else []
        has_original = self.image is not None and self.image.has_original
        return [PORTRAIT, ORIGINAL] if has_original else [PORTRAIT]

    @property
    def upload_file(self) -> str:
        """Name of the file as it was sent."""
        return upload_name(self.field)
