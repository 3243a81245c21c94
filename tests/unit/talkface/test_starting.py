"""`talkface up` starts first what is waited for."""

from __future__ import annotations

import pytest

from talkface import up
from talkface.supervisor import Program, Supervisor
from talkface.up import _Starting


class Recorder(Supervisor):
    """Notes what it is to run, and runs nothing."""

    def __init__(self) -> None:
        super().__init__(lambda _line: None)
        self.names: list[str] = []

    def add(self, program: Program) -> None:
        self.names.append(program.name)


def stages() -> list[list[Program]]:
    return [
        [Program(name=name, command=[name], environment={}) for name in names]
        for names in (("api", "worker"), ("signer",), ("inspector",))
    ]


def test_a_stage_begins_when_the_one_before_it_is_passed() -> None:
    recorder = Recorder()
    starting = _Starting(recorder, stages())
    assert recorder.names == ["api", "worker"]

    starting.go_on(False, False)
    assert recorder.names == ["api", "worker"]
    starting.go_on(True, False)
    assert recorder.names == ["api", "worker", "signer"]
    starting.go_on(True, False)
    assert recorder.names == ["api", "worker", "signer"]
    starting.go_on(True, True)
    starting.go_on(True, True)
    assert recorder.names == ["api", "worker", "signer", "inspector"]


def test_nothing_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    starting = _Starting(recorder, stages())
    monkeypatch.setattr(up, "LONGEST_STAGE_S", 0.0)

    starting.go_on(False, False)

    assert recorder.names == ["api", "worker", "signer", "inspector"]
