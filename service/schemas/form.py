"""The multipart form of `POST /v1/talking-face`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import AfterValidator, ConfigDict, Field

from service.webhooks import check_callback_url
from worker.contract.intake.formats import types_of
from worker.contract.messages import SamplingOptions


class TalkingFaceOptions(SamplingOptions):
    """The fields that are text; one that is not listed is an error."""

    retention_s: Annotated[
        int | None,
        Field(
            ge=1,
            le=365 * 86_400,
            description="Seconds from the job's end until its result is erased; at most, and by "
            "default, what your key or the deployment allows.",
        ),
    ] = None
    callback_url: Annotated[
        Annotated[str, AfterValidator(check_callback_url)] | None,
        Field(description="An https address that is told of the job's end."),
    ] = None
    consent: Annotated[
        Literal["stated"] | None,
        Field(
            description="`stated`: you say that the person in the picture or video agreed. Kept with "
            "the job and in the video's Content Credentials, without any name. Some deployments "
            "require it."
        ),
    ] = None

    def sampling(self) -> SamplingOptions:
        """What concerns the video itself; what was not sent is not among its `model_fields_set`."""
        return SamplingOptions.model_validate(
            self.model_dump(include=set(SamplingOptions.model_fields), exclude_unset=True)
        )


class TalkingFaceForm(TalkingFaceOptions):
    """The files and the options, as the OpenAPI document shows them.

    `service.upload` receives them. Which files go together is
    `worker.contract.intake.uploads.check_combination`'s and `check_choices`'s to say.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["audio"]}, {"required": ["seconds"]}]}
    )

    audio: Annotated[
        UploadFile | None,
        Field(
            description=f"The voice: {types_of('audio')}. Required, but for a photograph that "
            "listens for `seconds`."
        ),
    ] = None
    image: Annotated[
        list[UploadFile],
        Field(
            default_factory=list,
            description=f"The portrait: {types_of('image')}. Sent again: further pictures of the same "
            "person, at most 4; beside a video all of them are that.",
        ),
    ]
    video: Annotated[
        UploadFile | None,
        Field(description=f"Instead of a portrait, a video to dub: {types_of('video')}."),
    ] = None
    driving_video: Annotated[
        UploadFile | None, Field(description="A video whose head motion the portrait takes over.")
    ] = None


def request_body() -> dict[str, Any]:
    """How the form stands in the OpenAPI document."""
    schema = TalkingFaceForm.model_json_schema()
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
