"""Which NVIDIA GPUs this machine has for us, and which worker gets which. No torch: it costs seconds to import."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
AUTO: Final = 0
"""Number of workers that stands for one a GPU."""
_PATIENCE_S: Final = 20.0


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """GPUs as `CUDA_VISIBLE_DEVICES` names them; empty where there is none for us.

    Args:
        environment: Variables of the workers.
    """
    if environment.get("TALKFACE_DEVICE", "auto") not in ("auto", "cuda"):
        # The CPU, or one GPU for all of them.
        return []
    if (chosen := environment.get(VISIBLE)) is not None:
        names = [name.strip() for name in chosen.split(",")]
        # As CUDA reads it: what follows an invalid name is not seen.
        stop = next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:stop]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            command,
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def count_workers(wanted: int, gpus: Sequence[str]) -> int:
    """How many workers are started: as many as are wanted, or for `AUTO` one a GPU, and at least one."""
    return wanted if wanted != AUTO else max(1, len(gpus))


def gpu_of(number: int, gpus: Sequence[str]) -> dict[str, str]:
    """The variable that gives worker `number`, from 1 on, a GPU; GPUs are dealt out in turn."""
    return {VISIBLE: gpus[(number - 1) % len(gpus)]} if gpus else {}
