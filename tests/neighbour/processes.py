"""Run a script of this folder with the code of a release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Told:
    """What a script answered, and the log beside it."""

    answer: dict[str, Any]
    log: str


def run_in(tree: Path, script: str, *arguments: object, given: object = None) -> Told:
    """Run `<script>.py` in a process that uses the code of `tree` alone.

    Args:
        tree: Becomes the process's PYTHONPATH.
        script: A file of this folder.
        arguments: Of the script.
        given: Sent to its standard input, as JSON.
    """
    environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
    environment |= {"PYTHONPATH": str(tree)}
    ran = subprocess.run(
        [sys.executable, "-P", str(_FOLDER / f"{script}.py"), *map(str, arguments)],
        env=environment,
        # The working directory's code must not be found.
        cwd=tree,
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    # Logs go to either stream; the answer is the last line of what was printed.
    *lines, answer = ran.stdout.splitlines()
    return Told(json.loads(answer), "\n".join([*lines, ran.stderr]))
