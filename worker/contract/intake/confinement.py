"""How strictly the decoders of this process are confined, and whether this machine can do it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.contract.intake.sandbox import Fences, SandboxMode
from worker.contract.logs import get_logger

_log = get_logger(__name__)


class SandboxError(Exception):
    """The sandbox that is required cannot be put up here; the message says what is missing."""


@dataclass
class Confinement:
    """What the decoders of this process get; an entry point sets it before the first of them.

    Args:
        mode: What happens where the kernel lacks a fence.
        most_abi: Landlock as a kernel of this ABI has it; None: all that there is.
        socket: Of the decoder server that runs them; None: they are children of this process.
    """

    mode: SandboxMode = SandboxMode.WARN
    most_abi: int | None = None
    socket: Path | None = None


confinement: Final = Confinement()


def confine(mode: SandboxMode, socket: Path | None = None) -> None:
    """Set how strictly the decoders of this process are confined; called once by an entry point.

    Args:
        mode: What happens where the kernel lacks a fence.
        socket: Of the decoder server, if that runs them; it looks at its machine itself.

    Raises:
        SandboxError: `require`, and this machine cannot do it.
    """
    confinement.mode, confinement.socket = mode, socket
    if socket is not None:
        return
    fences = examine()
    if fences.are_complete:
        _log.info("sandbox", landlock_abi=fences.landlock_abi)
    elif mode is SandboxMode.REQUIRE:
        raise SandboxError(
            f"decoders cannot be confined here: {what_is_missing(fences)}. Use a kernel with "
            "Landlock (5.13 or newer) and seccomp, or set TALKFACE_SANDBOX=warn, which decodes "
            "uploads with what there is"
        )
    else:
        _log.warning("sandbox_incomplete", missing=what_is_missing(fences))


def examine(most_abi: int | None = None) -> Fences:
    """Put up the fences around a child of this process and let it try them."""
    abi = [] if most_abi is None else [str(most_abi)]
    child = subprocess.run(
        [sys.executable, "-S", "-P", "-m", "worker.contract.intake.sandbox", "--examine", *abi],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        check=False,
    )
    try:
        return Fences(**json.loads(child.stdout))
    except ValueError:
        # It ended in another way than it should; nothing is known to hold.
        return Fences(0, files=False, calls=False)


def what_is_missing(fences: Fences) -> str:
    """The fences that do not stand, in words."""
    missing = []
    if not fences.files:
        missing.append("no Landlock (files)")
    if not fences.calls:
        missing.append("no seccomp filter (sockets and other processes)")
    return ", ".join(missing)
