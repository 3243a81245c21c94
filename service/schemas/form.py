"""The multipart form of `POST /v1/talking-face`."""

from __future__ import annotations

from typing import Annotated

from fastapi import UploadFile
from pydantic import Field

from worker.contract.messages import SamplingOptions


class TalkingFaceForm(SamplingOptions):
    """Two files and the options; a field that is not listed is an error."""

    audio: Annotated[UploadFile, Field(description="The voice: WAV, MP3, M4A, FLAC, Ogg or WebM.")]
    image: Annotated[UploadFile, Field(description="The portrait: JPEG, PNG or WebP.")]

    def options(self) -> SamplingOptions:
        """The options without the files."""
        return SamplingOptions.model_validate(
            self.model_dump(include=set(SamplingOptions.model_fields))
        )
