"""What `talkface doctor` found: one line of its report for each check."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended. Only `missing` makes the installation incomplete."""

    OK = "ok"
    OPTIONAL = "optional"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, what to do about it."""

    name: str
    state: State
    found: str
    remedy: str = ""


def is_installed(module: str) -> bool:
    """Whether a module of ours is part of this installation; it is not imported."""
    spec = importlib.util.find_spec(module)
    # A folder of that name in the current folder, which is no package, has no origin.
    return spec is not None and spec.origin is not None
