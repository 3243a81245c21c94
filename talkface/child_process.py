"""One child process on a leash: it cannot outlive its parent, and stopping it stops its offspring.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches only the parent,
which then stops everything in order, and so that what a child has started can be stopped with it.
The kernel kills the child when its parent dies without a word (`PR_SET_PDEATHSIG`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


def _leash(parent_pid: int) -> Callable[[], None]:
    def tie() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the leash was on.
        if os.getppid() != parent_pid:
            os._exit(1)

    return tie


class ChildProcess:
    """A running child.

    Start it from the main thread: the leash is tied to the thread that forks, not to the process.

    Args:
        command: Program and arguments.
        environment: The whole environment of the child.
        pass_fds: Descriptors that the child inherits beside the standard streams.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            preexec_fn=_leash(os.getpid()),
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
