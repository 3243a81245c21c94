"""Exit statuses of the command line: one per error code, so that scripts can branch on them."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

import typer

from worker.contract.errors import ErrorCode


class Exit(IntEnum):
    """Statuses that have no error code. 0 is success, 2 a usage error (typer's own)."""

    FAILED = 1
    USAGE = 2
    START_FAILED = 3
    PORT_TAKEN = 4
    INCOMPLETE = 5
    UNREACHABLE = 6
    # `talkface verify`; 0 is "ours".
    UNKNOWN_SIGNER = 80
    TAMPERED = 81
    NO_CREDENTIALS = 82
    INTERRUPTED = 130


# Never renumbered: scripts depend on it. 10-29 the input, 30-39 the request, 40-49 the
# installation, 50-59 the model, 60-69 who asks and how often, 70-79 more of the request, 80-89 what `verify` found.
EXIT_STATUS: dict[ErrorCode, int] = {
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 10,
    ErrorCode.UNDECODABLE_MEDIA: 11,
    ErrorCode.FILE_TOO_LARGE: 12,
    ErrorCode.AUDIO_TOO_SHORT: 13,
    ErrorCode.AUDIO_TOO_LONG: 14,
    ErrorCode.INVALID_OPTIONS: 15,
    ErrorCode.VIDEO_TOO_SHORT: 16,
    ErrorCode.VIDEO_TOO_LONG: 17,
    ErrorCode.MEDIA_REFUSED: 18,
    ErrorCode.NO_FACE_FOUND: 20,
    ErrorCode.SEVERAL_FACES: 21,
    ErrorCode.FACE_TOO_SMALL: 22,
    ErrorCode.FACE_TURNED_AWAY: 23,
    ErrorCode.MOUTH_NOT_VISIBLE: 24,
    ErrorCode.MALFORMED_REQUEST: 30,
    ErrorCode.NOT_FOUND: 31,
    ErrorCode.METHOD_NOT_ALLOWED: 32,
    ErrorCode.JOB_NOT_FOUND: 33,
    ErrorCode.RESULT_NOT_AVAILABLE: 34,
    ErrorCode.RANGE_NOT_SATISFIABLE: 35,
    ErrorCode.RESULT_EXPIRED: 36,
    ErrorCode.JOB_TERMINAL: 37,
    ErrorCode.IDEMPOTENCY_CONFLICT: 38,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 39,
    ErrorCode.STORE_UNAVAILABLE: 40,
    ErrorCode.NOT_READY: 41,
    ErrorCode.INSUFFICIENT_STORAGE: 42,
    ErrorCode.INTERNAL_ERROR: 43,
    ErrorCode.QUEUE_FULL: 44,
    ErrorCode.WORKER_LOST: 45,
    ErrorCode.DEADLINE_EXCEEDED: 46,
    ErrorCode.JOB_UNREADABLE: 47,
    ErrorCode.SIGNING_FAILED: 48,
    ErrorCode.SPEECH_UNAVAILABLE: 49,
    ErrorCode.MODEL_ERROR: 50,
    ErrorCode.OUT_OF_MEMORY: 51,
    ErrorCode.UNAUTHORIZED: 60,
    ErrorCode.FORBIDDEN: 61,
    ErrorCode.RATE_LIMITED: 62,
    ErrorCode.CONCURRENCY_LIMITED: 63,
    ErrorCode.QUOTA_EXCEEDED: 64,
    ErrorCode.HEADER_TOO_LARGE: 70,
    ErrorCode.REQUEST_TIMEOUT: 71,
    ErrorCode.WEBHOOK_NOT_AVAILABLE: 72,
    ErrorCode.AVATAR_NOT_FOUND: 73,
    ErrorCode.FILE_NOT_FOUND: 74,
}


def fail(status: int, message: str) -> NoReturn:
    """Say on standard error what went wrong and leave with `status`."""
    typer.echo(f"talkface: {message}", err=True)
    raise typer.Exit(status)
