"""Keep a handful of programs running until told to stop, then stop them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from talkface.child_process import ChildProcess, describe_status

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
# A program that ran for so long has recovered: its next death is answered at once again.
STEADY_S = 20.0
# Before everything was ready once, a program that keeps dying is broken, not unlucky.
MAX_DEATHS_AT_START = 3


class SupervisorError(Exception):
    """A program does not start; running on would be pretence."""


@dataclass(frozen=True)
class Program:
    """What to run.

    Args:
        name: What messages call it.
        command: Program and arguments.
        environment: The whole environment.
        pass_fds: Descriptors that it inherits.
        stop_order: Programs with a lower number are stopped first, equal ones together.
        grace_s: How long it may take to end after SIGTERM, in seconds.
        failure_hint: Called when it does not start; says where to look.
        hopeless_status: Exit status with which it says that another try would end the same way.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    stop_order: int = 0
    grace_s: float = 10.0
    failure_hint: Callable[[], str] = lambda: ""
    hopeless_status: int | None = None


@dataclass
class _Slot:
    program: Program
    child: ChildProcess | None = None
    deaths: int = 0
    restart_at_s: float = 0.0


class Supervisor:
    """Starts programs, restarts what dies with a growing delay, stops everything.

    Single-threaded: call `tick` often, from the main thread.

    Args:
        tell: Called with one line about each death and restart.
        on_death: Called with the process id of what died by itself.
    """

    def __init__(
        self, tell: Callable[[str], None], on_death: Callable[[int], None] = lambda _pid: None
    ) -> None:
        self._slots: list[_Slot] = []
        self._tell = tell
        self._on_death = on_death
        self._steady = False

    def add(self, program: Program) -> None:
        """Run one more program; the next `tick` starts it."""
        self._slots.append(_Slot(program))

    def tick(self) -> None:
        """Notice what died and start what is due.

        Raises:
            SupervisorError: A program keeps dying before `mark_ready` was called.
        """
        for slot in self._slots:
            self._notice_death(slot)
            if slot.child is None and time.monotonic() >= slot.restart_at_s:
                slot.child = self._start(slot.program)

    def mark_ready(self) -> None:
        """Everything answered once: from now on, deaths are answered with restarts for ever."""
        self._steady = True

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything in order; nothing of it runs when this returns.

        Args:
            hurry: Asked while waiting; True means: kill at once.
        """
        for order in sorted({slot.program.stop_order for slot in self._slots}):
            group = [slot for slot in self._slots if slot.program.stop_order == order]
            for slot in group:
                if slot.child is not None:
                    slot.child.terminate()
            for slot in group:
                self._end(slot, hurry)

    def _start(self, program: Program) -> ChildProcess:
        try:
            return ChildProcess(
                program.command, environment=program.environment, pass_fds=program.pass_fds
            )
        except OSError as error:
            raise SupervisorError(f"cannot start {program.name}: {error}") from error

    def _notice_death(self, slot: _Slot) -> None:
        if slot.child is None or (status := slot.child.exit_status()) is None:
            return
        lived_s = time.monotonic() - slot.child.started_at_s
        slot.child.kill_group()  # what it may have left behind
        self._on_death(slot.child.pid)
        slot.child = None
        slot.deaths = 1 if lived_s >= STEADY_S else slot.deaths + 1
        told = f"{slot.program.name} ended with {describe_status(status)}"
        if not self._steady and status == slot.program.hopeless_status:
            # It has said why, and would say so again.
            raise SupervisorError(f"{told}. {slot.program.failure_hint()}".rstrip())
        if not self._steady and slot.deaths >= MAX_DEATHS_AT_START:
            hint = slot.program.failure_hint()
            raise SupervisorError(f"{told}, {slot.deaths} times in a row. {hint}".rstrip())
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (slot.deaths - 1))
        slot.restart_at_s = time.monotonic() + delay_s
        self._tell(f"{told}; starting it again in {delay_s:.1f} s")

    def _end(self, slot: _Slot, hurry: Callable[[], bool]) -> None:
        if slot.child is None:
            return
        until_s = time.monotonic() + slot.program.grace_s
        while not slot.child.wait(0.1):
            if hurry() or time.monotonic() >= until_s:
                break
        slot.child.kill_group()
        slot.child = None
