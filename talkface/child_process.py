"""One child process on a leash: it cannot outlive its parent, and stopping it stops its offspring.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches only the parent,
which then stops everything in order, and so that what a child has started can be stopped with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")


class ChildProcess:
    """A running child.

    Start it from the main thread: the leash holds on to the thread that forks, not to the process.

    Args:
        command: Program and arguments.
        environment: The whole environment of the child.
        pass_fds: Descriptors that the child inherits beside the standard streams.

    Raises:
        FileNotFoundError: There is no such program.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        program = shutil.which(command[0], path=environment.get("PATH"))
        if program is None:
            raise FileNotFoundError(f"no such program: {command[0]}")
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        self._popen = subprocess.Popen(
            [*leash, program, *command[1:]],
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
        self.started_at_s = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id, which is the process group's id too."""
        return self._popen.pid

    def exit_status(self) -> int | None:
        """None while it runs; else the exit status, negative for the signal that killed it."""
        return self._popen.poll()

    def terminate(self) -> None:
        """Ask the child to end; its own children are its own concern first."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Whether the child has ended within `timeout_s`."""
        try:
            self._popen.wait(timeout=max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_group(self) -> None:
        """Kill the child and whatever it left in its process group; harmless when all are gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
