from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from talkface.child_process import ChildProcess, describe_status
from talkface.supervisor import MAX_DEATHS_AT_START, Program, Supervisor, SupervisorError

LIMIT_S = 30.0


def program(code: str, name: str = "child", **choices: object) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-c", code],
        environment=os.environ,
        **choices,  # type: ignore[arg-type]
    )


def sleeper(folder: Path, name: str = "child", **choices: object) -> Program:
    """A program that notes its process id in a file, one line a start, and sleeps."""
    note = f"import os; open({str(folder / name)!r}, 'a').write(f'{{os.getpid()}}\\n')"
    return program(f"{note}; import time; time.sleep(600)", name, **choices)


def pids(folder: Path, name: str = "child") -> list[int]:
    path = folder / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def run_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until_s, "it never came true"
        supervisor.tick()
        time.sleep(0.02)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervisor(told: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(told.append)
    yield supervisor
    supervisor.stop(hurry=lambda: True)


def test_what_dies_is_started_again(
    supervisor: Supervisor, told: list[str], tmp_path: Path
) -> None:
    supervisor.add(sleeper(tmp_path))
    run_until(supervisor, lambda: len(pids(tmp_path)) == 1)
    supervisor.mark_ready()

    for count in range(1, 4):
        os.kill(pids(tmp_path)[-1], 9)
        run_until(supervisor, lambda count=count: len(pids(tmp_path)) == count + 1)

    assert len(set(pids(tmp_path))) == 4
    # The pause doubles, so that a broken program does not burn the machine.
    assert [line.split("again in ")[1] for line in told] == ["0.2 s", "0.4 s", "0.8 s"]
    assert "SIGKILL" in told[0]


def test_a_program_that_never_starts_is_given_up(supervisor: Supervisor, told: list[str]) -> None:
    supervisor.add(program("raise SystemExit(7)", "broken", failure_hint=lambda: "Look there"))

    with pytest.raises(SupervisorError, match=r"broken ended with exit status 7.*Look there"):
        run_until(supervisor, lambda: False)
    assert len(told) == MAX_DEATHS_AT_START - 1


def test_a_program_that_is_not_there_is_told(supervisor: Supervisor) -> None:
    supervisor.add(Program("absent", ["/absent/program"], os.environ))

    with pytest.raises(SupervisorError, match="cannot start absent"):
        supervisor.tick()


def test_stopping_takes_grandchildren_along(supervisor: Supervisor, tmp_path: Path) -> None:
    # It leaves a child behind when it ends on SIGTERM, as a careless program would.
    note = f"open({str(tmp_path / 'grandchild')!r}, 'w').write(str(child.pid))"
    supervisor.add(
        program(
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            f"{note}\n"
            "time.sleep(600)"
        )
    )
    run_until(supervisor, lambda: bool(pids(tmp_path, "grandchild")))
    grandchild = psutil.Process(pids(tmp_path, "grandchild")[0])

    supervisor.stop()

    assert psutil.wait_procs([grandchild], timeout=LIMIT_S)[1] == [] or (
        grandchild.status() == psutil.STATUS_ZOMBIE
    )


def test_a_program_that_ignores_sigterm_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    ignores = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    note = f"import os; open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid()))"
    supervisor.add(
        program(f"{ignores}; {note}; import time; time.sleep(600)", grace_s=0.3),
    )
    run_until(supervisor, lambda: bool(pids(tmp_path)))

    supervisor.stop()

    assert not psutil.pid_exists(pids(tmp_path)[0])


def test_programs_stop_in_their_order(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def noting(name: str, stop_order: int) -> Program:
        return program(
            "import signal, sys, time\n"
            "def end(*_):\n"
            "    time.sleep(0.2)\n"
            f"    open({str(log)!r}, 'a').write({name!r} + ' ')\n"
            "    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, end)\n"
            f"open({str(tmp_path / name)!r}, 'w').write('0')\n"
            "time.sleep(600)",
            name,
            stop_order=stop_order,
        )

    supervisor.add(noting("database", 1))
    supervisor.add(noting("client", 0))
    run_until(supervisor, lambda: all((tmp_path / n).exists() for n in ("database", "client")))

    supervisor.stop()

    assert log.read_text().split() == ["client", "database"]


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = program(
        "import os, sys, time\n"
        "from talkface.child_process import ChildProcess\n"
        "child = ChildProcess([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " environment=os.environ)\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    process = ChildProcess(parent.command, environment=os.environ)
    until_s = time.monotonic() + LIMIT_S
    while not pids(tmp_path):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    child = psutil.Process(pids(tmp_path)[0])

    os.kill(process.pid, 9)
    process.wait(LIMIT_S)

    assert psutil.wait_procs([child], timeout=LIMIT_S)[1] == [] or (
        child.status() == psutil.STATUS_ZOMBIE
    )


def test_statuses_are_told_in_words() -> None:
    assert describe_status(70) == "exit status 70"
    assert describe_status(-9) == "signal SIGKILL"


def test_who_says_that_another_try_would_end_the_same_way_is_believed(
    supervisor: Supervisor,
) -> None:
    supervisor.add(program("import sys; sys.exit(78)", hopeless_status=78))

    with pytest.raises(SupervisorError, match=r"^child ended with exit status 78\.$"):
        run_until(supervisor, lambda: False)


def test_whoever_holds_the_ledger_is_told_which_process_died(tmp_path: Path) -> None:
    died: list[int] = []
    supervisor = Supervisor(lambda _line: None, on_death=died.append)
    supervisor.add(sleeper(tmp_path))
    try:
        run_until(supervisor, lambda: len(pids(tmp_path)) == 1)
        (first,) = pids(tmp_path)
        os.kill(first, signal.SIGKILL)
        run_until(supervisor, lambda: len(pids(tmp_path)) == 2)
    finally:
        supervisor.stop(hurry=lambda: True)

    # What is stopped on purpose has handed its job back and is no death.
    assert died == [first]
