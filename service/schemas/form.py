"""The multipart form of `POST /v1/talking-face`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from service.webhook_targets import check_callback_url
from worker.contract.intake.formats import types_of
from worker.contract.messages import SamplingOptions

MAX_TEXT: Final = 5000
"""Characters; about six minutes of speech."""
MAX_METADATA: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 256
KEPT_ID: Final = "^[0-9a-f]{32}$"


def _json_object(value: object) -> object:
    """A form sends an object as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('expected a JSON object of strings, such as {"shot": "12"}') from None


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

    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=MAX_METADATA_KEY)],
            Annotated[str, Field(max_length=MAX_METADATA_VALUE)],
        ],
        BeforeValidator(_json_object),
        Field(
            max_length=MAX_METADATA,
            description=f"A JSON object of at most {MAX_METADATA} strings of your own, each of at most "
            f"{MAX_METADATA_VALUE} characters, which come back in the job and in its webhook.",
        ),
    ] = {}  # noqa: RUF012  pydantic copies it

    text: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_TEXT,
            description="Instead of `audio`: what is said, read by the deployment's voice server.",
        ),
    ] = None
    voice: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[\w .+()/-]+$",
            description="Beside `text`: a voice by the voice server's name for it.",
        ),
    ] = None
    language: Annotated[
        str | None,
        Field(
            max_length=20,
            pattern=r"^[A-Za-z]+(-[A-Za-z0-9]+)*$",
            description="Beside `text`: its language, such as `en` or `pt-br`.",
        ),
    ] = None

    avatar_id: Annotated[
        str | None,
        Field(
            pattern=KEPT_ID,
            description="Instead of `image` or `video`: the `id` of an avatar, which was checked and looked at "
            "before.",
        ),
    ] = None
    audio_id: Annotated[
        str | None,
        Field(
            pattern=KEPT_ID,
            description="Instead of `audio`: the `id` of a file that is kept here.",
        ),
    ] = None

    @property
    def spoken(self) -> dict[str, str]:
        """What the voice server is told; empty where nothing is to be read."""
        told = {"text": self.text, "voice": self.voice, "language": self.language}
        return {name: value for name, value in told.items() if value is not None}

    def sampling(self) -> SamplingOptions:
        """What concerns the video itself; what was not sent is not among its `model_fields_set`."""
        return SamplingOptions.model_validate(
            self.model_dump(include=set(SamplingOptions.model_fields), exclude_unset=True)
        )


class TalkingFaceForm(TalkingFaceOptions):
    """Exactly one of `image`, `video` and `avatar_id`; of `audio`, `audio_id`, `text` and `seconds`; any options."""

    # `service.job_form` receives them; `worker.contract.intake.uploads` says which go together. Not as
    # `oneOf` in the document: client generators make a union of empty shapes of it.

    audio: Annotated[
        UploadFile | None,
        Field(
            description=f"The voice: {types_of('audio')}. Required without `audio_id` and `text`, but for a "
            "photograph that listens for `seconds`."
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


def request_body(form: type[BaseModel]) -> dict[str, Any]:
    """How a form stands in the OpenAPI document."""
    schema = form.model_json_schema()
    schema["properties"] = {name: _part(of) for name, of in schema["properties"].items()}
    # Generators make a better name of the operation's than of both.
    del schema["title"]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _part(schema: dict[str, Any]) -> dict[str, Any]:
    """A field as client generators understand it.

    A part of a form is sent or left out, it is never null; generators know a file by `format`, which
    OpenAPI 3.1 no longer asks for; and a default they would send, also where it does not belong.
    """
    part = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if schema.get("default") is not None:
        part["description"] += f" Default: {json.dumps(schema['default'])}."
    if "contentMediaType" in schema:
        part["format"] = "binary"
    if "items" in schema:
        part["items"] = _part(schema["items"])
    if "anyOf" in schema:
        choices = [_part(choice) for choice in schema["anyOf"] if choice != {"type": "null"}]
        part |= choices[0] if len(choices) == 1 else {"anyOf": choices}
    return part
