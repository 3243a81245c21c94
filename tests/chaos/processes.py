"""Processes that are killed at random and started again, and who does it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Victim:
    """What is killed: a name, a command, and its whole environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()


class Running:
    """A victim that somebody keeps alive, with its log in a file.

    Only the process itself is killed, as by the kernel when memory is short; its children see a
    closed pipe.
    """

    def __init__(self, victim: Victim, folder: Path) -> None:
        self.victim = victim
        self._log = folder / f"{victim.name.replace(' ', '-')}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.is_alive():
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.victim.command,
                env=dict(self.victim.environment),
                pass_fds=self.victim.pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> bool:
        """SIGKILL; whether there was something to kill."""
        if self._process is None or not self.is_alive():
            return False
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return True

    def end(self) -> None:
        """Stop it and what it left."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Storm:
    """Keeps processes running, and kills one of them now and then.

    Args:
        victims: What runs; the first one is started first.
        folder: Where the logs go.
        seed: Of the choice of victims and moments.
        pause_s: Shortest and longest time between two kills, in seconds.
    """

    def __init__(
        self,
        victims: Sequence[Victim],
        folder: Path,
        seed: int,
        pause_s: tuple[float, float],
    ) -> None:
        self._running = [Running(victim, folder) for victim in victims]
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self.kills: dict[str, int] = {victim.name: 0 for victim in victims}

    def start(self) -> None:
        for one in self._running:
            one.start()

    def rage(self, seconds: float) -> None:
        """Kill for so long; what died is back after a moment, as under a supervisor."""
        until = time.monotonic() + seconds
        back_at: dict[Running, float] = {}
        next_kill = time.monotonic() + self._random.uniform(*self._pause_s)
        while (now := time.monotonic()) < until:
            if now >= next_kill:
                one = self._random.choice(self._running)
                self.kills[one.victim.name] += one.kill()
                next_kill = now + self._random.uniform(*self._pause_s)
            self._revive(back_at, now)
            time.sleep(0.02)
        self.start()

    def tend(self) -> None:
        """Start what has ended."""
        self.start()

    def _revive(self, back_at: dict[Running, float], now: float) -> None:
        for one in self._running:
            if one.is_alive():
                continue
            if one not in back_at:
                back_at[one] = now + self._random.uniform(0.1, 0.6)
            elif now >= back_at[one]:
                del back_at[one]
                one.start()

    def end(self) -> None:
        for one in reversed(self._running):
            one.end()

    @property
    def num_kills(self) -> int:
        return sum(self.kills.values())
