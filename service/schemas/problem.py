"""The one shape of every error (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from worker.contract.errors import ErrorCode, ParamValue


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
                    "errors": [],
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
