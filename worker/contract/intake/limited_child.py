"""Decoders of untrusted bytes run here: a child with bounds on memory, time and files, in a sandbox.

A decoder that crashes, hangs or eats memory takes its child along and nothing else; one that is taken
over finds nothing to read and nobody to talk to (`sandbox`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.confinement import SandboxError, confinement
from worker.contract.intake.decoder_orders import ChildEnd, ChildLimits, Order, run_elsewhere
from worker.contract.intake.formats import DEMUXERS
from worker.contract.intake.sandbox import NOT_CONFINED, Policy

# Not ffmpeg's default of everything: an HLS playlist renamed .wav read another local file.
_PROTOCOLS: Final = "file,pipe"
_FORMATS: Final = ",".join(DEMUXERS)
_OUTPUT_BYTES: Final = 64 * 1024
_ERROR_BYTES: Final = 16 * 1024
_LOOK_S: Final = 0.5


def keep_waiting() -> None:
    """Nothing has changed: the decoder may go on."""


def run_limited(
    command: Sequence[str],
    limits: ChildLimits,
    *,
    what: str,
    reads: Sequence[Path] = (),
    writes: Path | None = None,
    told: bytes = b"",
    on_wait: Callable[[], None] = keep_waiting,
) -> ChildEnd:
    """Run a decoder to its end.

    Args:
        command: ffmpeg and its arguments, or `-m`, a module of ours and its arguments.
        limits: Its bounds.
        what: What it decodes, for the sentence.
        reads: The files that it may read.
        writes: The folder in which it may do as it likes.
        told: What it reads from standard input, 64 KiB at most.
        on_wait: Called about twice a second meanwhile; what it raises ends the decoder.

    Raises:
        IntakeError: undecodable_media, the wall clock ran out.
        SandboxError: It was not started, because the sandbox that is required cannot be put up.
        DecoderAwayError: Another process decodes, and it cannot be reached.
    """
    ask_elsewhere = confinement.socket
    try:
        if ask_elsewhere is not None:
            order = Order(tuple(command), limits, tuple(reads), writes, told)
            end = run_elsewhere(ask_elsewhere, order, on_wait)
        else:
            end = run_here(command, limits, reads, writes, on_wait, told)
    except subprocess.TimeoutExpired:
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            f"Decoding the {what} took longer than {limits.wall_clock_s:g} s and was stopped. "
            "Save it in a plainer format and resend it.",
        ) from None
    if end.status == NOT_CONFINED:
        raise SandboxError(end.errors.strip())
    return end


def run_here(
    command: Sequence[str],
    limits: ChildLimits,
    reads: Sequence[Path],
    writes: Path | None,
    on_wait: Callable[[], None],
    told: bytes = b"",
) -> ChildEnd:
    """Run a decoder as a child of this very process; the arguments are those of `run_limited`.

    Raises:
        subprocess.TimeoutExpired: The wall clock ran out.
    """
    command = _confined(command, reads, writes)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        # A session of its own makes a process group that can be killed whole; no environment but
        # what Python needs.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=_child_environment(),
            start_new_session=True,
        )
        try:
            _limit(child.pid, limits)
            _tell(child, told)
            status = _wait(child, limits.wall_clock_s, on_wait)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        return ChildEnd(status, output.read(_OUTPUT_BYTES), _tail(errors.fileno()))


def ffmpeg_reading(
    source: Path,
    demuxer: str,
    *,
    start: int = 0,
    threads: int = 1,
    options: Sequence[str] = (),
    loglevel: str = "error",
) -> list[str]:
    """The beginning of an ffmpeg command that reads one untrusted file with a demuxer of ours.

    Args:
        source: The file.
        demuxer: ffmpeg's name of the only format that it may be.
        start: Where the format begins in the file, in bytes: behind tags and padding.
        threads: Of the decoder and of each filter.
        options: Further options of the input.
        loglevel: How much ffmpeg says.
    """
    count = str(threads)
    return [
        ffmpeg_path(),
        *("-nostdin", "-hide_banner", "-loglevel", loglevel, "-y"),
        *("-threads", count, "-filter_threads", count, "-filter_complex_threads", count),
        *("-protocol_whitelist", _PROTOCOLS, "-format_whitelist", _FORMATS),
        *(("-skip_initial_bytes", str(start)) if start else ()),
        *("-f", demuxer, *options, "-i", f"file:{source}"),
    ]


@functools.cache
def ffmpeg_path() -> str:
    """Path of the ffmpeg binary."""
    from imageio_ffmpeg import get_ffmpeg_exe

    return str(get_ffmpeg_exe())


def _confined(command: Sequence[str], reads: Sequence[Path], writes: Path | None) -> Sequence[str]:
    """The command that gives up everything else and then becomes this one."""
    policy = Policy(
        reads=tuple(str(path.absolute()) for path in reads),
        writes=() if writes is None else (str(writes.absolute()),),
        mode=confinement.mode,
        most_abi=confinement.most_abi,
    )
    # Our own modules want their libraries; a program wants nothing of Python.
    site = () if command[0] == "-m" else ("-S",)
    sandbox = ("-P", "-m", "worker.contract.intake.sandbox", policy.to_json())
    return [sys.executable, *site, *sandbox, *command]


def _tell(child: subprocess.Popen[bytes], told: bytes) -> None:
    """Write its standard input, which a pipe holds as a whole, and close it."""
    assert child.stdin is not None
    # One that has ended already says why by its status.
    with contextlib.suppress(BrokenPipeError), child.stdin as stream:
        stream.write(told)


def _wait(child: subprocess.Popen[bytes], wall_clock_s: float, on_wait: Callable[[], None]) -> int:
    """The exit status.

    Raises:
        subprocess.TimeoutExpired: The wall clock ran out.
    """
    until = time.monotonic() + wall_clock_s
    while True:
        left_s = until - time.monotonic()
        try:
            return child.wait(timeout=min(_LOOK_S, max(0.0, left_s)))
        except subprocess.TimeoutExpired:
            if left_s <= _LOOK_S:
                raise
        on_wait()


def _limit(pid: int, limits: ChildLimits) -> None:
    bounds = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.max_file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    # From outside, because code between fork and exec is unsafe in a process with threads. A child
    # that is already gone needs no limits.
    with contextlib.suppress(ProcessLookupError):
        for kind, bound in bounds.items():
            _, hard = resource.prlimit(pid, kind)
            ceiling = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.prlimit(pid, kind, (ceiling, ceiling))


def _child_environment() -> Mapping[str, str]:
    # The child must find this very package, wherever it was imported from.
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    os.lseek(descriptor, max(0, size - _ERROR_BYTES), os.SEEK_SET)
    return os.read(descriptor, _ERROR_BYTES).decode("utf-8", "replace")
