"""The one shape of every error (RFC 9457)."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from worker.contract.errors import ErrorCode, ParamValue
from worker.contract.intake.formats import types_of


class FieldError(BaseModel):
    """One field of a request that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """`application/problem+json`; branch on `code`, show `detail`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:talkface:problem:audio_too_short",
                    "title": "Audio too short",
                    "status": 422,
                    "detail": "The audio lasts 0.05 s; at least 0.2 s are needed.",
                    "code": "audio_too_short",
                    "request_id": "0b6ad9b1f3c54c0e8f64a1b9c8e2d7f0",
                    "params": {"seconds": 0.05, "min_seconds": 0.2},
                    "errors": [
                        {
                            "field": "audio",
                            "message": "The audio lasts 0.05 s; at least 0.2 s are needed.",
                        }
                    ],
                }
            ]
        }
    )

    type: str = Field(description="A name for the kind of problem, `urn:talkface:problem:<code>`.")
    title: str
    status: int
    detail: str
    code: ErrorCode
    request_id: str | None = None
    params: dict[str, ParamValue] = Field(default_factory=dict)
    errors: list[FieldError] = Field(default_factory=list)


EXAMPLE_DETAILS: Final[dict[ErrorCode, str]] = {
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: f"The picture is not {types_of('image')}. "
    "Send one of these; the name does not matter.",
    ErrorCode.UNDECODABLE_MEDIA: "The picture looks like JPEG but cannot be decoded. Save it again "
    "and resend it.",
    ErrorCode.FILE_TOO_LARGE: "The picture has 31457280 bytes; the limit is 20971520. Send a "
    "smaller file.",
    ErrorCode.AUDIO_TOO_SHORT: "The audio lasts 0.05 s; at least 0.2 s are needed.",
    ErrorCode.AUDIO_TOO_LONG: "The audio is longer than the limit of 600 s. Send it in parts.",
    ErrorCode.VIDEO_TOO_SHORT: "The video lasts 0.04 s; at least 0.2 s are needed.",
    ErrorCode.VIDEO_TOO_LONG: "The video is longer than the limit of 600 s. Send it in parts.",
    ErrorCode.INVALID_OPTIONS: "The request is not valid: fps: Input should be less than or equal "
    "to 60.",
    ErrorCode.FACE_TOO_SMALL: "The picture has 60 x 40 pixels, so no face in it can have the 64 "
    "pixels that are needed. Send a larger picture.",
    ErrorCode.MEDIA_REFUSED: "A file is on this deployment's list of files that it does not work with.",
    ErrorCode.MALFORMED_REQUEST: "Missing boundary in multipart.",
    ErrorCode.HEADER_TOO_LARGE: "The request line and headers have more than 65536 bytes. Send "
    "fewer.",
    ErrorCode.REQUEST_TIMEOUT: "The body of the request did not arrive in time. Send it again.",
    ErrorCode.JOB_NOT_FOUND: "There is no job of this id.",
    ErrorCode.AVATAR_NOT_FOUND: "There is no avatar of this id.",
    ErrorCode.FILE_NOT_FOUND: "There is no file of this id.",
    ErrorCode.RESULT_NOT_AVAILABLE: "The job is running; it has no video yet.",
    ErrorCode.RESULT_EXPIRED: "The files of this job were erased when their time was over. Send "
    "them again.",
    ErrorCode.RANGE_NOT_SATISFIABLE: "The video has 1843200 bytes; the range bytes=2000000- lies "
    "outside.",
    ErrorCode.JOB_TERMINAL: "The job has succeeded; there is nothing left to cancel.",
    ErrorCode.WEBHOOK_NOT_AVAILABLE: "The job is running; its webhook is sent when it has ended.",
    ErrorCode.JOB_UNREADABLE: "This server cannot read the job; another release may have written it. "
    "Ask again later, or delete the job.",
    ErrorCode.IDEMPOTENCY_CONFLICT: "This Idempotency-Key was used with other files or options. "
    "Use a new key for a new request.",
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: "A request with this Idempotency-Key is being worked on. "
    "Send it again in a moment.",
    ErrorCode.UNAUTHORIZED: "Send a valid API key: `Authorization: Bearer tf_...`.",
    ErrorCode.FORBIDDEN: "This key may not do that; it needs the scope write.",
    ErrorCode.RATE_LIMITED: "Too many requests: at most 120 in 60 s. Wait as long as Retry-After "
    "says.",
    ErrorCode.CONCURRENCY_LIMITED: "You have 32 open jobs, as many as you may. Wait until one of "
    "them ends.",
    ErrorCode.QUOTA_EXCEEDED: "Your open jobs have 580.0 of 600 seconds of sound, and this one has 45.0. "
    "Wait until one of them ends.",
    ErrorCode.QUEUE_FULL: "1000 jobs are waiting, as many as may. Try again later.",
    ErrorCode.SPEECH_UNAVAILABLE: "The text could not be spoken: the voice server failed. It does not "
    "answer, or says that it cannot now. Try again later, or send the voice as `audio`.",
    ErrorCode.STORE_UNAVAILABLE: "The job store cannot be reached; try again shortly.",
    ErrorCode.NOT_READY: "Not ready: no worker is alive.",
    ErrorCode.INSUFFICIENT_STORAGE: "The server's storage is full; try again later.",
    ErrorCode.INTERNAL_ERROR: "Something went wrong here. Tell the operator this request id.",
}
"""What a person may read, for the codes that a request may be answered with."""
