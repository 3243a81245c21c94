"""The one table from what a render raises to what a client is told."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from model.errors import (
    AudioTooLongError,
    AudioTooShortError,
    CheckpointError,
    ConfigError,
    EncodingError,
    FaceIndexError,
    FaceTooSmallError,
    FaceTurnedAwayError,
    InputError,
    MissingDependencyError,
    ModelError,
    MouthNotVisibleError,
    NoFaceError,
    SamplingError,
    ShapeError,
    UnsupportedMediaError,
)
from worker.contract.artifacts import ArtifactNotFoundError, StorageAwayError, StorageFullError
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.messages import JobFailure
from worker.contract.signing import SigningError

FULL_PAUSE_S: Final = 3.0
"""How long a process waits when its storage is full or away, before the job is tried again, in seconds."""


@dataclass(frozen=True)
class Cause:
    """How a class of exceptions is told.

    Args:
        code: The word for clients.
        retryable: Whether another attempt may end better: never for what the caller sent.
        detail: A sentence for clients, or None where the exception's own message is meant for them.
    """

    code: ErrorCode
    retryable: bool
    detail: str | None = None


_BROKEN_MODEL = "The model failed on this input. The operator finds the reason in the log."

# Input errors carry sentences for the caller; the others speak of our insides and are told plainly.
CAUSES: dict[type[ModelError], Cause] = {
    ModelError: Cause(ErrorCode.MODEL_ERROR, True, _BROKEN_MODEL),
    InputError: Cause(ErrorCode.UNDECODABLE_MEDIA, False),
    UnsupportedMediaError: Cause(ErrorCode.UNDECODABLE_MEDIA, False),
    NoFaceError: Cause(ErrorCode.NO_FACE_FOUND, False),
    FaceTooSmallError: Cause(ErrorCode.FACE_TOO_SMALL, False),
    FaceTurnedAwayError: Cause(ErrorCode.FACE_TURNED_AWAY, False),
    MouthNotVisibleError: Cause(ErrorCode.MOUTH_NOT_VISIBLE, False),
    FaceIndexError: Cause(ErrorCode.SEVERAL_FACES, False),
    AudioTooShortError: Cause(ErrorCode.AUDIO_TOO_SHORT, False),
    AudioTooLongError: Cause(ErrorCode.AUDIO_TOO_LONG, False),
    ConfigError: Cause(ErrorCode.MODEL_ERROR, False, _BROKEN_MODEL),
    ShapeError: Cause(ErrorCode.MODEL_ERROR, False, _BROKEN_MODEL),
    CheckpointError: Cause(
        ErrorCode.MODEL_ERROR, False, "The worker's checkpoint is broken; tell the operator."
    ),
    MissingDependencyError: Cause(
        ErrorCode.MODEL_ERROR, False, "The worker's installation is incomplete; tell the operator."
    ),
    EncodingError: Cause(ErrorCode.MODEL_ERROR, True, "The video could not be written."),
    SamplingError: Cause(ErrorCode.MODEL_ERROR, True, _BROKEN_MODEL),
}

_OUT_OF_MEMORY = Cause(
    ErrorCode.OUT_OF_MEMORY, True, "The worker ran out of memory. Try a smaller picture or later."
)
_FULL = Cause(ErrorCode.INSUFFICIENT_STORAGE, True, "The server's storage is full; try later.")
_UNSIGNED = "The video could not be signed, so it was not published. Tell the operator."
_GONE = Cause(ErrorCode.MODEL_ERROR, False, "The job's input files are gone; send them again.")


# What torch says of a device that this process can use no more; the exception's class differs by version.
_STICKY = (
    "CUDA error",
    "device-side assert",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "an illegal memory access",
)


def is_storage_unusable(error: BaseException) -> bool:
    """Whether the storage had no room or was away: nothing is wrong with the job, and later it may go."""
    return any(
        isinstance(one, (StorageFullError, StorageAwayError))
        or (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT))
        or (isinstance(one, IntakeError) and one.code is ErrorCode.INSUFFICIENT_STORAGE)
        # ffmpeg says it in words.
        or (isinstance(one, EncodingError) and os.strerror(errno.ENOSPC) in str(one))
        for one in _chain(error)
    )


def is_sticky(error: BaseException) -> bool:
    """Whether the process must be replaced: after most CUDA errors every further call fails too.

    Running out of memory is none of them.
    """
    return any(
        type(one).__name__ == "AcceleratorError"
        or (isinstance(one, RuntimeError) and any(sign in str(one) for sign in _STICKY))
        for one in _chain(error)
        if type(one).__name__ != "OutOfMemoryError"
    )


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what led to it."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def classify(error: BaseException) -> Cause:
    """How to tell an exception: the entry of its class or of the nearest class above."""
    if isinstance(error, ModelError):
        return next(CAUSES[kind] for kind in type(error).__mro__ if kind in CAUSES)
    if isinstance(error, IntakeError):
        return Cause(error.code, False)
    # torch's class, told by its name because torch is not imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _OUT_OF_MEMORY
    if isinstance(error, StorageFullError):
        return _FULL
    if isinstance(error, ArtifactNotFoundError):
        return _GONE
    if isinstance(error, SigningError):
        return Cause(ErrorCode.SIGNING_FAILED, not error.is_lasting, _UNSIGNED)
    return CAUSES[ModelError]


def describe(error: BaseException) -> JobFailure:
    """The failure as it is stored."""
    cause = classify(error)
    failure = JobFailure(code=cause.code, detail=cause.detail or str(error))
    if isinstance(error, IntakeError):
        failure = failure.model_copy(update={"params": error.params, "field": error.field})
    return failure
