"""Tie this process to its parent, then become another program: `leash.py PARENT_PID PROGRAM ...`.

The kernel kills the program when the parent dies without a word (`PR_SET_PDEATHSIG`, man 2 prctl),
and exec keeps that. A program of its own and not a `preexec_fn`, because running Python between
fork and exec is unsafe in a parent that has threads. Only the standard library: it starts with
`python -I -S` in some milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Does not return: the program takes this process over."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the leash was on.
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
