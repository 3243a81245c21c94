"""Landlock: which files this process may still touch, by the kernel's own word (landlock(7)).

What is not granted by a rule is refused. Kernels know different sets of rights, their *ABI*: 1 is
Linux 5.13, 2 is 5.19 (Debian 12's 6.1 has it), 3 is 6.2, 4 is 6.7, 6 is 6.12. A right that a kernel
does not know cannot be taken away by it; `seccomp` closes what ABI 1 and 2 leave open.

Only the standard library: it is loaded by a child that has nothing else.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import Final

# uapi/linux/landlock.h; the numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE: Final = 1 << 14
_OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | 1 << 15
READ: Final = READ_FILE | READ_DIR
"""What is needed to read a folder and all below."""
WORK: Final = READ | WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
"""What is needed to work in a folder; no links, devices or sockets."""

# Rights of the file system by the ABI that brought them: 1 thirteen, 2 REFER, 3 TRUNCATE, 5 IOCTL_DEV.
_FILE_RIGHTS: Final = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 4: 2**15 - 1}
_ALL_FILE_RIGHTS: Final = 2**16 - 1
_BIND_AND_CONNECT_TCP: Final = 3
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 3

_libc = ctypes.CDLL(None, use_errno=True)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi() -> int:
    """The kernel's version of Landlock; 0 where it has none, or is told to keep it off."""
    version = _libc.syscall(
        _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)
    )
    return max(0, int(version))


def restrict(rules: Iterable[tuple[str, int]], *, most_abi: int | None = None) -> int:
    """Give up every file but those of some rules, for this process and all that it becomes.

    Args:
        rules: Path and rights; a path that is not there grants nothing. A file's rights are those of
            a file only.
        most_abi: Behave like a kernel that knows no more than this, to see what an old one does.

    Returns:
        The ABI that was used.

    Raises:
        OSError: The kernel has no Landlock, or refuses.
    """
    version = abi() if most_abi is None else min(abi(), most_abi)
    if version < 1:
        raise OSError("this kernel has no Landlock")
    handled = _FILE_RIGHTS.get(version, _ALL_FILE_RIGHTS)
    attributes = _RulesetAttributes(
        handled_access_fs=handled,
        handled_access_net=_BIND_AND_CONNECT_TCP if version >= 4 else 0,
        scoped=_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    )
    # An older kernel refuses a structure that is longer than the one it knows.
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _checked(
        _libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    )
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled)
        # Without it the kernel lets root alone restrict itself.
        _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(allowed_access=rights, parent_fd=descriptor)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(descriptor)


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
