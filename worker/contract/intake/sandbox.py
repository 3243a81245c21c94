"""What a decoder may touch, and the small program that gives up everything else and becomes it.

    python -S -P -m worker.contract.intake.sandbox POLICY /path/to/ffmpeg ...     becomes the program
    python    -P -m worker.contract.intake.sandbox POLICY -m our.module ...       calls its `main`
    python -S -P -m worker.contract.intake.sandbox --examine [ABI]                says what holds

Two fences of the kernel (docs/adr/0030): Landlock for files, seccomp for everything else that one
process can do to another. A program of its own and no `preexec_fn`: running Python between fork and
exec is unsafe in a process with threads. A module of ours is loaded before the fences go up, so
that of our own code nothing has to be readable behind them.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from worker.contract.intake import landlock, seccomp

NOT_CONFINED: Final = 126
"""Exit status of a child that could not give up what it was to give up."""
_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LOADER_FILES: Final = ("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/zero")


class SandboxMode(StrEnum):
    """What happens where the kernel lacks one of the fences."""

    REQUIRE = "require"
    WARN = "warn"


class Policy(NamedTuple):
    """What a child may touch.

    Args:
        reads: Files and folders that it may read.
        writes: Folders in which it may do as it likes.
        mode: What happens where a fence is missing.
        most_abi: Landlock as a kernel of this ABI has it; None: all that there is.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    mode: SandboxMode = SandboxMode.WARN
    most_abi: int | None = None

    def to_json(self) -> str:
        """For the child's command line."""
        return json.dumps(self._asdict())


class Fences(NamedTuple):
    """What a child was seen to be unable to do.

    Args:
        landlock_abi: 0 where the kernel has no Landlock.
        files: Whether a file that it was not given was closed to it.
        calls: Whether it could open no socket.
    """

    landlock_abi: int
    files: bool
    calls: bool

    @property
    def are_complete(self) -> bool:
        """Whether both fences stand."""
        return self.files and self.calls


def enter(policy: Policy, program: str | None = None) -> None:
    """Give up everything else, for good.

    Args:
        policy: What is kept.
        program: What this process becomes; None: it stays what it is.

    Raises:
        OSError: A fence is missing and the policy requires both.
    """
    rules = [(path, landlock.READ) for path in (*_LIBRARIES, *_LOADER_FILES, *policy.reads)]
    rules += [(path, landlock.WORK) for path in policy.writes]
    rules.append(("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE))
    if program is None:
        rules += [(path, landlock.READ) for path in _python_folders()]
    else:
        rules.append((os.path.realpath(program), landlock.READ_FILE | landlock.EXECUTE))
        # The kernel opens a program's loader in its name.
        loaders = (name for name in ("/lib64", "/lib") if os.path.isdir(name))
        rules += [
            (os.path.join(folder, name), landlock.READ_FILE | landlock.EXECUTE)
            for folder in loaders
            for name in os.listdir(folder)
            if name.startswith("ld-")
        ]
    fences: tuple[Callable[[], object], ...] = (
        lambda: landlock.restrict(rules, most_abi=policy.most_abi),
        lambda: seccomp.restrict(may_exec=program is not None),
    )
    for fence in fences:
        try:
            fence()
        except OSError:
            if policy.mode is SandboxMode.REQUIRE:
                raise


def _python_folders() -> list[str]:
    """Where modules may still be loaded from: libraries, and nothing that is ours."""
    import sysconfig

    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = [path for path in sys.path if path.endswith(("-packages", "lib-dynload"))]
    return [*named, *found, os.path.join(sys.base_prefix, "lib")]


def _examine(most_abi: int | None) -> Fences:
    """Put up the fences around this process and try them."""
    import socket

    enter(Policy(most_abi=most_abi), program="/bin/true")
    can_read = can_connect = True
    try:
        with open("/etc/passwd", "rb"):
            pass
    except PermissionError:
        can_read = False
    try:
        socket.socket(socket.AF_UNIX).close()
    except PermissionError:
        can_connect = False
    version = landlock.abi() if most_abi is None else min(landlock.abi(), most_abi)
    return Fences(version, files=not can_read, calls=not can_connect)


def main(arguments: Sequence[str]) -> int:
    """Confine this process and go on as what the arguments say."""
    if arguments[0] == "--examine":
        most_abi = int(arguments[1]) if len(arguments) > 1 else None
        sys.stdout.write(json.dumps(_examine(most_abi)._asdict()))
        return 0
    given = json.loads(arguments[0])
    policy = Policy(**{**given, "mode": SandboxMode(given["mode"])})
    program = list(arguments[1:])
    is_ours = program[0] == "-m"
    if is_ours:
        run: Callable[[list[str]], int] = importlib.import_module(program[1]).main
    try:
        enter(policy, None if is_ours else program[0])
    except OSError as error:
        sys.stderr.write(f"the sandbox cannot be put up: {error.strerror or error}\n")
        return NOT_CONFINED
    if is_ours:
        return run(program[2:])
    # Python ignores these, and a program that it becomes would, too.
    for name in (signal.SIGXFSZ, signal.SIGPIPE):
        signal.signal(name, signal.SIG_DFL)
    os.execv(program[0], program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
