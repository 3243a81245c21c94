"""A decoder that was taken over: it finds nothing to read and nobody to talk to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.contract.intake import confinement as confinement_module
from worker.contract.intake.confinement import SandboxError, confine, confinement, examine
from worker.contract.intake.decoder_orders import ChildEnd, ChildLimits
from worker.contract.intake.limited_child import run_limited
from worker.contract.intake.sandbox import Fences, SandboxMode

LIMITS = ChildLimits(memory_bytes=2**30, cpu_s=20, wall_clock_s=60.0, max_file_bytes=2**20)

# What a taken over decoder would try. Each prints its name if nothing kept it from it.
ATTEMPTS = """
import ctypes, os, socket, sys
home, own, parent, tcp, abstract = sys.argv[1:6]
libc = ctypes.CDLL(None, use_errno=True)
victim = int(parent)

def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def connect(family, address):
    with socket.socket(family) as s:
        s.connect(address)

def spend(path, flags):
    os.close(os.open(path, flags))

vector = (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
numbers = {"x86_64": (101, 310, 311, 62), "aarch64": (117, 270, 271, 129)}[os.uname().machine]
ptrace, read_memory, write_memory, kill = numbers
attempts = {
    "read the install key": lambda: open(f"{home}/secrets/install.key", "rb").read(),
    "read another upload": lambda: open(f"{home}/other/upload", "rb").read(),
    "list the data folder": lambda: os.listdir(home),
    "read /etc/passwd": lambda: open("/etc/passwd").read(),
    "read a process's memory": lambda: open(f"/proc/{parent}/mem", "rb").close(),
    "read a process's environment": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "list processes": lambda: os.listdir("/proc"),
    "write outside": lambda: open(f"{home}/mark", "w").write("x"),
    "overwrite a file": lambda: open(f"{home}/other/upload", "w").write("x"),
    "append to a file": lambda: open(f"{home}/other/upload", "a").write("x"),
    "empty a file by its name": lambda: os.truncate(f"{home}/other/upload", 0),
    "empty a file while reading": lambda: spend(f"{home}/other/upload", os.O_RDONLY | os.O_TRUNC),
    "erase a file": lambda: os.unlink(f"{home}/other/upload"),
    "rename a file": lambda: os.rename(f"{home}/other/upload", f"{own}/upload"),
    "link a file": lambda: os.link(f"{home}/other/upload", f"{own}/upload"),
    "link by name": lambda: os.symlink(f"{home}/other/upload", f"{own}/name"),
    "open a file up": lambda: os.chmod(f"{home}/secrets/install.key", 0o644),
    "touch a file": lambda: os.utime(f"{home}/other/upload", (0, 0)),
    "make a folder outside": lambda: os.mkdir(f"{home}/folder"),
    "make a pipe": lambda: os.mkfifo(f"{own}/pipe"),
    "speak TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", int(tcp))),
    "speak to a UNIX socket": lambda: connect(socket.AF_UNIX, f"{home}/redis.sock"),
    "speak to an abstract socket": lambda: connect(socket.AF_UNIX, chr(0) + abstract),
    "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "open a socket pair": lambda: socket.socketpair(),
    "connect": lambda: call({"x86_64": 42, "aarch64": 203}[os.uname().machine], 0, None, 0),
    "trace": lambda: call(ptrace, 16, victim, None, None),
    "set up io_uring": lambda: call(425, 8, ctypes.create_string_buffer(128)),
    "read memory": lambda: call(read_memory, victim, vector, 1, vector, 1, 0),
    "write memory": lambda: call(write_memory, victim, vector, 1, vector, 1, 0),
    "take a descriptor": lambda: call(434, victim, 0),
    "send a signal": lambda: os.kill(victim, 0),
    "limit a process": lambda: __import__("resource").prlimit(victim, 4, (0, 0)),
    "slow a process down": lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
    "start a process": lambda: os._exit(0) if os.fork() == 0 else None,
    "make a namespace": lambda: call({"x86_64": 272, "aarch64": 97}[os.uname().machine], 0x10000000),
    "share memory": lambda: call({"x86_64": 29, "aarch64": 194}[os.uname().machine], 77, 8, 0o1600),
    "hold a program in memory": lambda: os.memfd_create("program"),
    "call the other way": lambda: call(0x40000000 + 39),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
with open(f"{own}/result", "w") as out:
    out.write("its own folder is its own")
open(f"{own}/result").read()
os.unlink(f"{own}/result")
print("done")
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data folder with a secret, another caller's upload and a socket that answers."""
    for name in ("secrets", "other", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "secrets" / "install.key").write_bytes(b"s" * 32)
    (tmp_path / "secrets" / "install.key").chmod(0o600)
    (tmp_path / "other" / "upload").write_text("a face")
    with socket.socket(socket.AF_UNIX) as ledger:
        # sun_path is short; pytest's folders are not.
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            ledger.bind("redis.sock")
        finally:
            os.chdir(here)
        ledger.listen()
        yield tmp_path


@pytest.fixture(params=[None, 2], ids=["this kernel", "Debian 12's Landlock"])
def most_abi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    abi: int | None = request.param
    monkeypatch.setattr(confinement, "most_abi", abi)
    monkeypatch.setattr(confinement, "mode", SandboxMode.REQUIRE)
    return abi


def attempt(data_dir: Path, tcp: int, abstract: str, victim: int) -> ChildEnd:
    arguments = [str(data_dir), str(data_dir / "own"), str(victim), str(tcp), abstract]
    python = [sys.executable, "-I", "-S", "-c", ATTEMPTS, *arguments]
    reads, writes = [Path(sys.base_prefix)], data_dir / "own"
    return run_limited(python, LIMITS, what="test", reads=reads, writes=writes)


@pytest.mark.skipif(not examine().are_complete, reason="this kernel lacks Landlock or seccomp")
def test_a_decoder_finds_nothing_to_read_and_nobody_to_talk_to(
    data_dir: Path, most_abi: int | None
) -> None:
    abstract = f"talkface-{os.getpid()}-{most_abi}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as hidden,
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]) as victim,
    ):
        hidden.bind(chr(0) + abstract)
        hidden.listen()
        try:
            end = attempt(data_dir, tcp.getsockname()[1], abstract, victim.pid)
        finally:
            victim.kill()

    assert end.errors == ""
    assert end.output.decode().splitlines() == ["done"]
    assert (data_dir / "other" / "upload").read_text() == "a face"


def test_without_the_sandbox_the_attempts_would_succeed(data_dir: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as hidden,
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]) as victim,
    ):
        hidden.bind(chr(0) + f"talkface-{os.getpid()}")
        hidden.listen()
        try:
            arguments = [str(data_dir), str(data_dir / "own"), str(victim.pid)]
            arguments += [str(tcp.getsockname()[1]), f"talkface-{os.getpid()}"]
            told = subprocess.run(
                [sys.executable, "-I", "-S", "-c", ATTEMPTS, *arguments], capture_output=True
            ).stdout.decode()
        finally:
            victim.kill()

    for name in ("read the install key", "speak TCP", "speak to a UNIX socket", "send a signal"):
        assert name in told


def test_a_child_of_ours_is_confined_behind_its_imports(
    data_dir: Path, most_abi: int | None
) -> None:
    """The picture child refuses what it was not given: its answer is an error of the kernel."""
    if not examine(most_abi).are_complete:
        pytest.skip("this kernel lacks Landlock or seccomp")
    request = {
        "source": str(data_dir / "other" / "upload"),
        "original": "",
        "format": "PNG",
        "destination": str(data_dir / "own" / "out.png"),
        "background": "#ffffff",
        "max_pixels": 10**6,
        "max_side": 640,
        "min_side": 64,
    }
    command = ["-m", "worker.contract.intake.picture_child", json.dumps(request)]

    end = run_limited(command, LIMITS, what="test", writes=data_dir / "own")

    assert end.status == 1 and "PermissionError" in end.errors


def test_where_a_fence_is_missing_require_refuses_and_warn_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confinement, "mode", SandboxMode.WARN)
    monkeypatch.setattr(confinement_module, "examine", lambda: Fences(0, files=False, calls=True))

    confine(SandboxMode.WARN)
    with pytest.raises(SandboxError, match=r"no Landlock.*TALKFACE_SANDBOX=warn"):
        confine(SandboxMode.REQUIRE)


def test_a_child_that_cannot_be_confined_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Landlock of an ABI that no kernel has.
    monkeypatch.setattr(confinement, "most_abi", 0)
    python = [sys.executable, "-I", "-S", "-c", "print('ran')"]

    monkeypatch.setattr(confinement, "mode", SandboxMode.REQUIRE)
    with pytest.raises(SandboxError, match="the sandbox cannot be put up"):
        run_limited(python, LIMITS, what="test")
    monkeypatch.setattr(confinement, "mode", SandboxMode.WARN)
    end = run_limited(python, LIMITS, what="test")

    assert end.output == b"ran\n"
