"""The closed set of codes by which a request or a job may fail.

Clients branch on these words, so a code is never renamed. No HTTP status lives here:
`service.problems` maps every code to one, `worker.failures` maps exceptions of the model to codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

ParamValue = str | int | float | bool | None


class ErrorCode(StrEnum):
    """Why a request was refused or a job failed."""

    # The upload.
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNDECODABLE_MEDIA = "undecodable_media"
    FILE_TOO_LARGE = "file_too_large"
    AUDIO_TOO_SHORT = "audio_too_short"
    AUDIO_TOO_LONG = "audio_too_long"
    VIDEO_TOO_SHORT = "video_too_short"
    VIDEO_TOO_LONG = "video_too_long"
    INVALID_OPTIONS = "invalid_options"
    MEDIA_REFUSED = "media_refused"
    # The face, found by the worker.
    NO_FACE_FOUND = "no_face_found"
    SEVERAL_FACES = "several_faces"
    FACE_TOO_SMALL = "face_too_small"
    FACE_TURNED_AWAY = "face_turned_away"
    MOUTH_NOT_VISIBLE = "mouth_not_visible"
    # The request.
    MALFORMED_REQUEST = "malformed_request"
    HEADER_TOO_LARGE = "header_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    JOB_NOT_FOUND = "job_not_found"
    AVATAR_NOT_FOUND = "avatar_not_found"
    FILE_NOT_FOUND = "file_not_found"
    RESULT_NOT_AVAILABLE = "result_not_available"
    RESULT_EXPIRED = "result_expired"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    JOB_TERMINAL = "job_terminal"
    WEBHOOK_NOT_AVAILABLE = "webhook_not_available"
    JOB_UNREADABLE = "job_unreadable"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    # Who asks, and how often.
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    CONCURRENCY_LIMITED = "concurrency_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    QUEUE_FULL = "queue_full"
    SPEECH_UNAVAILABLE = "speech_unavailable"
    # The installation.
    STORE_UNAVAILABLE = "store_unavailable"
    NOT_READY = "not_ready"
    INSUFFICIENT_STORAGE = "insufficient_storage"
    INTERNAL_ERROR = "internal_error"
    # The job only.
    MODEL_ERROR = "model_error"
    OUT_OF_MEMORY = "out_of_memory"
    WORKER_LOST = "worker_lost"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    SIGNING_FAILED = "signing_failed"


class IntakeError(Exception):
    """An upload cannot be used.

    Args:
        code: What is wrong, as a stable word.
        detail: One sentence for the person who sent it: what, got, expected, what to do.
        params: The figures in `detail`, for programs.
        field: Name of the form field that is meant; None where nobody has said so yet.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        field: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.params: dict[str, ParamValue] = dict(params or {})
        self.field = field


@contextmanager
def of_field(name: str) -> Iterator[None]:
    """Say of what cannot be used in this block which form field it came in."""
    try:
        yield
    except IntakeError as error:
        error.field = error.field or name
        raise
