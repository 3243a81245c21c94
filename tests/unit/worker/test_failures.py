"""Every error of the model has its place in the table, and every code can reach a client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from model import errors
from worker.contract.artifacts import StorageFullError
from worker.contract.errors import ErrorCode
from worker.failures import CAUSES, classify, describe, is_sticky, is_storage_unusable


def tree(root: type[errors.ModelError]) -> Iterator[type[errors.ModelError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize(
    "kind", sorted((k for k in tree(errors.ModelError) if k.__module__ == "model.errors"), key=str)
)
def test_every_model_error_has_an_entry(kind: type[errors.ModelError]) -> None:
    assert kind in CAUSES


@pytest.mark.parametrize("kind", sorted(tree(errors.InputError), key=str))
def test_what_the_caller_sent_is_never_tried_again(kind: type[errors.InputError]) -> None:
    assert not classify(kind("x")).retryable


def test_an_input_error_tells_the_caller_and_an_inner_one_does_not() -> None:
    seen = describe(errors.NoFaceError("No face was found in the picture."))
    hidden = describe(errors.SamplingError("nan in layer 3 of /srv/unet"))

    assert (seen.code, seen.detail) == (
        ErrorCode.NO_FACE_FOUND,
        "No face was found in the picture.",
    )
    assert hidden.code is ErrorCode.MODEL_ERROR
    assert "unet" not in hidden.detail


def test_an_error_of_a_new_class_is_told_like_its_parent() -> None:
    class BlurredFaceError(errors.FaceTooSmallError):
        pass

    assert classify(BlurredFaceError("x")).code is ErrorCode.FACE_TOO_SMALL


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), ErrorCode.OUT_OF_MEMORY),
        (StorageFullError("full"), ErrorCode.INSUFFICIENT_STORAGE),
        (ZeroDivisionError("division by zero"), ErrorCode.MODEL_ERROR),
    ],
)
def test_what_is_not_the_models_has_a_code_too(error: Exception, code: ErrorCode) -> None:
    assert describe(error).code is code
    assert "division" not in describe(error).detail


@pytest.mark.parametrize(
    ("error", "sticky"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA error: out of memory"), False),
        (type("AcceleratorError", (RuntimeError,), {})("unknown"), True),
        (RuntimeError("shapes do not fit"), False),
        (errors.NoFaceError("CUDA error"), False),
    ],
)
def test_an_error_after_which_the_device_is_useless_is_told_apart(
    error: Exception, sticky: bool
) -> None:
    wrapped = errors.SamplingError("drawing failed")
    wrapped.__cause__ = error

    assert is_sticky(error) is sticky
    assert is_sticky(wrapped) is sticky


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (StorageFullError("full"), True),
        (OSError(28, "No space left on device"), True),
        (errors.EncodingError("ffmpeg could not write x: No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (errors.EncodingError("ffmpeg could not write x: Broken pipe"), False),
    ],
)
def test_a_full_volume_is_told_apart(error: Exception, full: bool) -> None:
    assert is_storage_unusable(error) is full
