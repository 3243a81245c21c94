"""The HTTP process stays small."""

from __future__ import annotations

import subprocess
import sys


def test_the_service_loads_neither_torch_nor_numpy_nor_the_model() -> None:
    code = "import sys, service.main; service.main.create_app(); print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert "service.main" in loaded
    assert {"torch", "numpy", "model", "worker.jobs", "worker.runtime"}.isdisjoint(loaded)
