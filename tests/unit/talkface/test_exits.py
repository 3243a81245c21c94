from __future__ import annotations

from talkface.exits import EXIT_STATUS, Exit
from worker.contract.errors import ErrorCode


def test_every_error_code_has_an_exit_status_of_its_own() -> None:
    assert set(EXIT_STATUS) == set(ErrorCode)
    assert len(set(EXIT_STATUS.values())) == len(EXIT_STATUS)


def test_exit_statuses_collide_neither_with_ours_nor_with_signals() -> None:
    # 126 and above are the shell's: not executable, not found, killed by a signal.
    assert set(EXIT_STATUS.values()).isdisjoint({0, *(int(status) for status in Exit)})
    assert max(EXIT_STATUS.values()) < 126
