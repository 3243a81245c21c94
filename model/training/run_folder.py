"""What a training run leaves in its `output`: state, statistics, samples, exported weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch


class RunFolder:
    """The folder of one run, made if it is not there. One process writes; all may read."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.samples, self.export = path / "samples", path / "export"
        self._state, self._statistics = path / "state.pt", path / "statistics.jsonl"

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` saved, on the CPU; None for a new run."""
        if not self._state.exists():
            return None
        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the state; a kill at any moment leaves the old one or the new one."""
        partial = self._state.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._state)

    def log(self, row: dict[str, float]) -> None:
        """Add a line to the statistics."""
        with self._statistics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop lines that a killed run wrote after its last state: they are about to be written again."""
        if not self._statistics.exists():
            return
        kept = []
        for line in self._statistics.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the kill came in the middle of a line
                continue
            if row["step"] <= step:
                kept.append(line + "\n")
        partial = self._statistics.with_suffix(".partial")
        partial.write_text("".join(kept))
        os.replace(partial, self._statistics)
