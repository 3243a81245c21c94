"""The previous release, as a commit of this repository: the one file that names it.

Version 0.2.1 is the required stop for upgrades, so every tree has to work beside it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

PREVIOUS_COMMIT: Final = "e27d82b15f0f6db222f900c440b3b4745ffdd823"
PREVIOUS_VERSION: Final = "0.2.1"

ROOT: Final = Path(__file__).resolve().parents[1]
CODE: Final = ("service", "worker", "model", "talkface", "pyproject.toml")
TEST_CODE: Final = ("tests/chaos", "tests/uploads.py", "tests/films.py")
"""What the tests need of a release beside its own code."""
NOT_NEEDED: Final = ("model/weights", "model/training", "model/evaluation")
"""Nothing of it is imported by a process that draws test cards, and the weights are big."""


class NoHistoryError(RuntimeError):
    """The previous release cannot be taken from this checkout."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(
            f"release {PREVIOUS_VERSION} (commit {PREVIOUS_COMMIT[:12]}) cannot be laid out: "
            f"{reason}. {advice}"
        )


def extract(folder: Path) -> Path:
    """Write the code of the previous release into a folder, which becomes a PYTHONPATH.

    Args:
        folder: Where to; it is made if it is not there.

    Returns:
        The folder.

    Raises:
        NoHistoryError: git, the repository or the commit is missing.
    """
    left_out = [f":(exclude){path}" for path in NOT_NEEDED]
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", PREVIOUS_COMMIT, "--"]
    try:
        archived = subprocess.run([*command, *CODE, *TEST_CODE, *left_out], capture_output=True)
    except FileNotFoundError:
        raise NoHistoryError("git is not installed", "Install git.") from None
    if archived.returncode != 0:
        told = archived.stderr.decode(errors="replace").strip().splitlines()
        raise NoHistoryError(
            f"this checkout has no history or is a shallow clone ({told[-1] if told else 'git'})",
            "Run `git fetch --unshallow`, or clone the repository instead of unpacking an archive.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archived.stdout, check=True)
    return folder
