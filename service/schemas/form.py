"""The multipart form of `POST /v1/talking-face`."""

from __future__ import annotations

from typing import Annotated

from fastapi import UploadFile
from pydantic import AfterValidator, Field

from service.webhooks import check_callback_url
from worker.contract.messages import SamplingOptions


class TalkingFaceForm(SamplingOptions):
    """The files and the options; a field that is not listed is an error.

    Which files go together is `worker.contract.inputs.check_combination`'s to say.
    """

    audio: Annotated[UploadFile, Field(description="The voice: WAV, MP3, M4A, FLAC, Ogg or WebM.")]
    image: Annotated[
        list[UploadFile],
        Field(
            default_factory=list,
            description="The portrait: JPEG, PNG or WebP. Sent again: further pictures of the same "
            "person, at most 4; beside a video all of them are that.",
        ),
    ]
    video: Annotated[
        UploadFile | None,
        Field(description="Instead of a portrait, a video to dub: MP4, MOV, WebM or Matroska."),
    ] = None
    driving_video: Annotated[
        UploadFile | None, Field(description="A video whose head motion the portrait takes over.")
    ] = None
    callback_url: Annotated[
        Annotated[str, AfterValidator(check_callback_url)] | None,
        Field(description="An https address that is told of the job's end."),
    ] = None

    def options(self) -> SamplingOptions:
        """The options without the files."""
        return SamplingOptions.model_validate(
            self.model_dump(include=set(SamplingOptions.model_fields))
        )
