"""What a deployment demands of a request: a label, consent, no file that it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from service.problems import ProblemError
from service.schemas.form import TalkingFaceOptions
from service.schemas.problem import FieldError
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode
from worker.contract.logs import get_logger

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_log = get_logger(__name__)


def check_label(options: TalkingFaceOptions, settings: ServiceSettings) -> None:
    """Refuse another label than the deployment's, where callers may not choose.

    Raises:
        ProblemError: invalid_options.
    """
    if settings.label_fixed and options.label not in (None, settings.label):
        raise _wrong(
            "label",
            f"{options.label} was asked for; here every video has the label {settings.label}. "
            "Leave it out",
        )


def check_consent(consent: str | None, settings: ServiceSettings) -> None:
    """Refuse who does not state the person's consent, where that is required.

    Args:
        consent: What was sent.
        settings: The deployment's.

    Raises:
        ProblemError: invalid_options.
    """
    if settings.require_consent and consent is None:
        raise _wrong(
            "consent",
            "missing; here whoever sends a picture or video has to say that the person in it agreed. "
            "If so, send consent=stated",
        )


class RefusedMedia:
    """The operator's list of files that are not worked with, by digest alone.

    Args:
        path: The list, read again when it changes; None = nothing is refused.

    One that cannot be read refuses everything: a list that is lost must not open the door.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._digests: frozenset[str] = frozenset()

    def check(self, sha256: str) -> None:
        """Refuse a file that is on the list.

        Args:
            sha256: Digest of its bytes as they came.

        Raises:
            ProblemError: media_refused; internal_error, the list cannot be read.
        """
        if self._path is None:
            return
        try:
            self._refresh(self._path)
        except OSError as error:
            _log.error("refused_media_unreadable", reason=error.strerror)
            raise ProblemError(
                ErrorCode.INTERNAL_ERROR, "The server cannot check the files. Tell the operator."
            ) from error
        if sha256 in self._digests:
            raise ProblemError(
                ErrorCode.MEDIA_REFUSED,
                "A file is on this deployment's list of files that it does not work with. "
                "Send another one, or ask the operator.",
            )

    def _refresh(self, path: Path) -> None:
        stat = path.stat()
        if self._read_at != (stat.st_mtime_ns, stat.st_size):
            # A word, then whatever the operator wrote behind it.
            lines = path.read_text("utf-8", "replace").lower().splitlines()
            words = [line.split()[0] for line in lines if line.strip()]
            self._digests = frozenset(filter(_DIGEST.fullmatch, words))
            self._read_at = stat.st_mtime_ns, stat.st_size


def _wrong(field: str, message: str) -> ProblemError:
    return ProblemError(
        ErrorCode.INVALID_OPTIONS,
        f"The request is not valid: {field}: {message}.",
        errors=[FieldError(field=field, message=message)],
    )
