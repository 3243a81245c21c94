"""A worker imports what it uses; what it leaves out is there for others afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHILD = """
import sys
from model.lean_imports import lean_imports

with lean_imports("diffusers"):
    from model.pipelines.talking_face import load_pipeline
    pipeline = load_pipeline(device="cpu", dtype="fp32")
with lean_imports("mediapipe"):
    from mediapipe.python.solutions import face_mesh
left_out = "torch._dynamo", "scipy.stats", "diffusers.hooks", "matplotlib", "sounddevice"
print([name for name in left_out if name in sys.modules])
# An error that it kept would keep the stack of whoever imported it, a recording perhaps.
recorder = sys.modules["mediapipe.tasks.python.audio.core.audio_record"]
print(hasattr(recorder, "sd_error"))

import scipy.stats
import matplotlib.pyplot
from diffusers.hooks import HookRegistry
print(scipy.stats.norm.cdf(0.0), matplotlib.pyplot.__file__ is not None, HookRegistry.__module__)
"""


def test_what_nobody_uses_is_left_out_and_can_be_imported_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "False", "0.5 True diffusers.hooks.hooks"]
