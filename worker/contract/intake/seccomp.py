"""seccomp: which system calls this process may still make (seccomp(2)).

A list of what is refused, not of what is allowed: decoders are programs of others, and what each of
their releases calls is not ours to know. Refused are the calls by which a process reaches others
(sockets, signals, memory, tracing, io_uring), the kernel (modules, mounts, namespaces, keys), new
processes, the owner and mode of files, and every call that is younger than Linux 5.1 but for a few.

Two of them are for Landlock before ABI 3, which does not see a file being emptied: `truncate`, and
opening for reading with O_TRUNC.

Only the standard library: it is loaded by a child that has nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Final

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_BITS, _AND, _RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x54,
    0x06,
)
# Offsets in struct seccomp_data; of an argument the lower half, on a little-endian machine.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_NOT_BEFORE_5_1: Final = 424
_YOUNG_BUT_HARMLESS: Final = (
    *(436, 439, 441),  # close_range, faccessat2, epoll_pwait2
    *(444, 445, 446),  # landlock_*: a process may always give up more
    *(449, 451, 453, 454, 455, 456, 462),  # futexes, cachestat, map_shadow_stack, mseal
)
_CLONE_THREAD: Final = 0x00010000
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000

_NAMES: Final = (
    # the network, and other processes on this machine
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto"),
    *("recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "tkill", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "setpriority", "ioprio_set", "migrate_pages", "move_pages"),
    *("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "msgget", "msgsnd", "msgrcv"),
    *("msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify"),
    # the kernel
    *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "acct", "swapon", "swapoff"),
    *("reboot", "sethostname", "setdomainname", "init_module", "finit_module", "delete_module"),
    *("kexec_load", "quotactl", "add_key", "request_key", "keyctl", "perf_event_open", "bpf"),
    *("fanotify_init", "userfaultfd", "personality", "name_to_handle_at", "open_by_handle_at"),
    # files by another way than by opening them
    *("truncate", "mknodat", "fchmod", "fchmodat", "fchown", "fchownat", "utimensat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    # programs that lie in no file
    *("memfd_create", "execveat"),
)


def _numbers(table: str) -> dict[str, int]:
    words = (entry.split() for entry in table.split(","))
    return {name: int(number) for name, number in words}


# From the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_X86_64: Final = _numbers(
    """
    socket 41, connect 42, accept 43, sendto 44, recvfrom 45, sendmsg 46, recvmsg 47, shutdown 48,
    bind 49, listen 50, socketpair 53, clone 56, fork 57, vfork 58, execve 59, kill 62, semget 64,
    semop 65, semctl 66, msgget 68, msgsnd 69, msgrcv 70, msgctl 71, shmget 29, shmat 30,
    shmctl 31, truncate 76, chmod 90, fchmod 91, chown 92, fchown 93, lchown 94, ptrace 101,
    rt_sigqueueinfo 129, utime 132, mknod 133, personality 135, setpriority 141,
    sched_setparam 142, sched_setscheduler 144, pivot_root 155, chroot 161, acct 163, mount 165,
    umount2 166, swapon 167, swapoff 168, reboot 169, sethostname 170, setdomainname 171, iopl 172,
    ioperm 173, init_module 175, delete_module 176, quotactl 179, setxattr 188, lsetxattr 189,
    fsetxattr 190, removexattr 197, lremovexattr 198, fremovexattr 199, tkill 200,
    sched_setaffinity 203, tgkill 234, utimes 235, mq_open 240, mq_unlink 241, mq_timedsend 242,
    mq_timedreceive 243, mq_notify 244, kexec_load 246, add_key 248, request_key 249, keyctl 250,
    ioprio_set 251, migrate_pages 256, open 2, openat 257, mknodat 259, fchownat 260,
    futimesat 261, fchmodat 268, unshare 272, move_pages 279, utimensat 280, accept4 288,
    rt_tgsigqueueinfo 297, perf_event_open 298, recvmmsg 299, fanotify_init 300, prlimit64 302,
    name_to_handle_at 303, open_by_handle_at 304, sendmmsg 307, setns 308, process_vm_readv 310,
    process_vm_writev 311, kcmp 312, finit_module 313, memfd_create 319, kexec_file_load 320,
    bpf 321, execveat 322, userfaultfd 323
    """
)
_AARCH64: Final = _numbers(
    """
    setxattr 5, lsetxattr 6, fsetxattr 7, removexattr 14, lremovexattr 15, fremovexattr 16,
    ioprio_set 30, mknodat 33, umount2 39, mount 40, pivot_root 41, truncate 45, chroot 51,
    fchmod 52, fchmodat 53, fchownat 54, fchown 55, openat 56, quotactl 60, utimensat 88, acct 89,
    personality 92, unshare 97, kexec_load 104, init_module 105, delete_module 106, ptrace 117,
    sched_setparam 118, sched_setscheduler 119, sched_setaffinity 122, kill 129, tkill 130,
    tgkill 131, rt_sigqueueinfo 138, setpriority 140, reboot 142, sethostname 161,
    setdomainname 162, mq_open 180, mq_unlink 181, mq_timedsend 182, mq_timedreceive 183,
    mq_notify 184, msgget 186, msgctl 187, msgrcv 188, msgsnd 189, semget 190, semctl 191,
    semtimedop 192, semop 193, shmget 194, shmctl 195, shmat 196, socket 198, socketpair 199,
    bind 200, listen 201, accept 202, connect 203, sendto 206, recvfrom 207, shutdown 210,
    sendmsg 211, recvmsg 212, add_key 217, request_key 218, keyctl 219, clone 220, execve 221,
    swapon 224, swapoff 225, migrate_pages 238, move_pages 239, rt_tgsigqueueinfo 240,
    perf_event_open 241, accept4 242, recvmmsg 243, prlimit64 261, fanotify_init 262,
    name_to_handle_at 264, open_by_handle_at 265, setns 268, sendmmsg 269, process_vm_readv 270,
    process_vm_writev 271, kcmp 272, finit_module 273, memfd_create 279, bpf 280, execveat 281,
    userfaultfd 282, kexec_file_load 294
    """
)
_MACHINES: Final = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
# Calls that only one of the two machines has.
_OF_ONE_MACHINE: Final = (
    *("fork", "vfork", "chmod", "chown", "lchown", "mknod", "utime", "utimes", "futimesat"),
    *("iopl", "ioperm", "semtimedop", "kexec_file_load"),
)
_X32: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction))]


def restrict(*, may_exec: bool) -> None:
    """Give up the calls of this module's list, for this process and all that it becomes.

    Args:
        may_exec: Whether the process is to become another program.

    Raises:
        OSError: The kernel has no seccomp, refuses, or this machine's calls are not known here.
    """
    instructions = _filter(may_exec=may_exec)
    block = (_Instruction * len(instructions))(*(_Instruction(*one) for one in instructions))
    program = _Program(len(instructions), block)
    if (
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
        or _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) < 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _filter(*, may_exec: bool) -> list[tuple[int, int, int, int]]:
    """The classic BPF program: one small block for each call, the first that matches answers."""
    machine = os.uname().machine
    if machine not in _MACHINES or sys.byteorder != "little":
        raise OSError(f"the system calls of {machine} are not known here")
    architecture, numbers = _MACHINES[machine]
    own_pid = os.getpid()
    refused = [numbers[name] for name in _NAMES]
    refused += [numbers[name] for name in _OF_ONE_MACHINE if name in numbers]
    if not may_exec:
        refused.append(numbers["execve"])

    # 1. another architecture's numbers would mean other calls
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
    ]
    program += [(_LOAD, 0, 0, _NUMBER), (_JUMP_GREATER_EQUAL, 0, 1, _X32), _refuse(errno.ENOSYS)]

    # 2. young calls; libraries fall back to the old ones when they are told that there are none
    for number in _YOUNG_BUT_HARMLESS:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [(_JUMP_GREATER_EQUAL, 0, 1, _NOT_BEFORE_5_1), _refuse(errno.ENOSYS)]

    # 3. never
    for number in refused:
        program += [(_JUMP_EQUAL, 0, 1, number), _refuse(errno.EPERM)]

    # 4. threads, but no processes
    program += _if_call(
        numbers["clone"], [*_argument(0), (_JUMP_BITS, 1, 0, _CLONE_THREAD), _refuse(errno.EPERM)]
    )
    # 5. signals to oneself only (abort), and limits of oneself only
    for name in ("kill", "tgkill"):
        program += _if_call(
            numbers[name], [*_argument(0), (_JUMP_EQUAL, 1, 0, own_pid), _refuse(errno.EPERM)]
        )
    for name in ("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setscheduler"):
        program += _if_call(
            numbers[name], [*_argument(0), (_JUMP_EQUAL, 1, 0, 0), _refuse(errno.EPERM)]
        )
    # 6. a file that is opened for reading is not emptied
    for name, place in (("open", 1), ("openat", 2)):
        if name in numbers:
            program += _if_call(
                numbers[name],
                [
                    *_argument(place),
                    (_AND, 0, 0, _O_ACCMODE | _O_TRUNC),
                    (_JUMP_EQUAL, 0, 1, _O_TRUNC),
                    _refuse(errno.EPERM),
                ],
            )
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _if_call(
    number: int, block: list[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """Run a block for one call; what it does not refuse is allowed."""
    return [(_JUMP_EQUAL, 0, len(block) + 1, number), *block, (_RETURN, 0, 0, _ALLOW)]


def _argument(place: int) -> list[tuple[int, int, int, int]]:
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * place)]


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | number)
