"""What every process does first: read its settings, and look whether it can do its work here.

What is wrong is told in a sentence with the variable's name, and the exit status says that another
try would end the same way.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from worker.contract.environment import PREFIX
from worker.contract.intake.confinement import SandboxError, confine
from worker.contract.intake.sandbox import SandboxMode

MISCONFIGURED: Final = 78
"""Exit status of a process that cannot start before somebody changes something (EX_CONFIG)."""
_Settings = TypeVar("_Settings", bound=BaseSettings)


class StartError(Exception):
    """A process cannot start; the message says what, got, expected, what to do."""


def read_settings(kind: type[_Settings], **values: Any) -> _Settings:
    """The settings from the environment.

    Args:
        kind: Which process's.
        values: What is known already and is not read.

    Raises:
        StartError: A variable has a value that it may not have.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise StartError(settings_sentence(error)) from None


def settings_sentence(error: ValidationError) -> str:
    """What is wrong with the settings, one sentence for each variable."""
    told = []
    for item in error.errors():
        name = PREFIX + "_".join(str(part) for part in item["loc"][:1]).upper()
        message = str(item["msg"]).removeprefix("Value error, ")
        # Addresses and files may hold a password.
        got = "" if name.endswith(("_URL", "_FILE")) else f", got {str(item['input'])!r}"
        told.append(f"{name}: {message[:1].lower()}{message[1:]}{got}")
    return ". ".join(told)


def check_data_dir(folder: Path) -> None:
    """Return if files can be made in the data folder; it is made where it is missing.

    Raises:
        StartError: They cannot; a mounted folder may be somebody else's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        user = f"{os.getuid()}:{os.getgid()}"
        raise StartError(
            f"the data folder {folder.absolute()} cannot be written by user {user} "
            f"({error.strerror}). Give it to that user (chown -R {user} FOLDER, on the host where it is "
            "mounted from), or name another one in TALKFACE_DATA_DIR"
        ) from None


def check_sandbox(mode: SandboxMode, socket: Path | None = None) -> None:
    """Set how strictly decoders are confined, and look whether this machine can do it.

    Raises:
        StartError: `require`, and it cannot.
    """
    try:
        confine(mode, socket)
    except SandboxError as error:
        raise StartError(str(error)) from None


def refuse(error: StartError) -> NoReturn:
    """Say why this process cannot start, and end it."""
    sys.stderr.write(f"talkface: {error}\n")
    sys.exit(MISCONFIGURED)
