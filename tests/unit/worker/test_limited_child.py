"""The bounds around a decoder, with small programs in its place."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.decoder_orders import ChildEnd, ChildLimits
from worker.contract.intake.limited_child import run_limited

LIMITS = ChildLimits(memory_bytes=512 * 2**20, cpu_s=20, wall_clock_s=60.0, max_file_bytes=2**20)


def run(code: str, limits: ChildLimits = LIMITS, folder: Path | None = None) -> ChildEnd:
    # The first lines wait until the parent has set the bounds.
    ready = (
        "import os, resource, time\n"
        "while resource.getrlimit(resource.RLIMIT_CORE)[1] != 0: time.sleep(0.001)\n"
    )
    python = [sys.executable, "-I", "-S", "-c", ready + code]
    reads = [Path(sys.base_prefix)]
    return run_limited(python, limits, what="test", reads=reads, writes=folder)


def is_gone(pid: int) -> bool:
    """Whether a process ended, or will not run again: the kill is sent, its end takes a moment."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_memory_is_bounded() -> None:
    end = run("bytearray(600 * 2**20)")

    assert end.status == 1
    assert end.words == "MemoryError"


def test_a_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large"

    code = f"open({str(path)!r}, 'wb', 0).write(b'x' * 2**20 * 3)\nopen('/dev/null')"
    end = run(code, folder=tmp_path)

    # Python ignores the signal and gets an error at the next write; ffmpeg would be killed.
    assert path.stat().st_size <= LIMITS.max_file_bytes
    assert end.status in (0, 1)


def test_processor_time_is_bounded() -> None:
    end = run("while True: pass", replace(LIMITS, cpu_s=1))

    assert end.status == -signal.SIGKILL


def test_patience_is_bounded() -> None:
    with pytest.raises(IntakeError) as caught:
        run("time.sleep(600)", replace(LIMITS, wall_clock_s=0.5))

    assert caught.value.code is ErrorCode.UNDECODABLE_MEDIA


def test_the_child_starts_nothing() -> None:
    end = run("os.fork()")

    assert end.words == "[Errno 1] Operation not permitted"


def test_a_child_that_hangs_is_gone_afterwards(tmp_path: Path) -> None:
    code = "open('pid', 'w').write(str(os.getpid())); time.sleep(600)"

    with pytest.raises(IntakeError):
        run(f"os.chdir({str(tmp_path)!r})\n{code}", replace(LIMITS, wall_clock_s=3.0), tmp_path)

    assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_child_sees_nothing_of_our_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKFACE_REDIS_URL", "redis://:secret@host")
    read, write = os.pipe()

    end = run(
        "import sys\n"
        "print(sorted(os.environ), os.environ.get('TALKFACE_REDIS_URL'))\n"
        "def is_open(handle):\n"
        "    try: os.fstat(handle)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print(repr(sys.stdin.read()), [handle for handle in range(256) if is_open(handle)])"
    )
    os.close(read)
    os.close(write)

    environment, handles = end.output.decode().splitlines()
    assert "TALKFACE" not in environment and environment.endswith("None")
    assert handles == "'' [0, 1, 2]"


def test_only_so_much_is_read_of_what_it_says() -> None:
    end = run("import sys\nprint('o' * 2**18); print('e' * 2**18, file=sys.stderr)")

    assert len(end.output) == 64 * 1024
    assert len(end.errors) <= 16 * 1024


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", ""),
        ("[mp3 @ 0x1] Header missing", "[mp3 @ 0x1] Header missing"),
        ("/var/lib/x/upload: Invalid data found", "Invalid data found"),
        ("OSError: cannot open '/srv/secret/upload'", "upload'"),
        ("x" * 500, "x" * 200),
    ],
)
def test_its_words_name_no_path(said: str, told: str) -> None:
    assert ChildEnd(1, b"", f"first line\n{said}\n" if said else "").words == told
