"""Stages 0 to 2 run where only torch, diffusers, accelerate, numpy, PIL, PyYAML and tqdm are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ABSENT = (
    "cv2", "face_alignment", "fastapi", "imageio_ffmpeg", "librosa", "matplotlib", "mediapipe",
    "numba", "pydantic", "redis", "rq", "scipy", "skimage", "soundfile", "typer", "uvicorn",
)  # fmt: skip
TRAINING = sorted(
    f"model.training.{path.stem}"
    for path in (ROOT / "model" / "training").glob("*.py")
    if path.stem in ("config", "launch", "loop", "run_folder", "stage")
    or path.stem.startswith(("stage0", "stage1", "stage2"))
)
NETWORKS = sorted(
    f"model.networks.{path.stem}"
    for path in (ROOT / "model" / "networks").glob("*.py")
    if path.stem != "__init__"
)

# A finder in front of all others that hides distributions as if they were never installed: imports
# fail, and so does `importlib.util.find_spec`, by which diffusers chooses what it can do.
IMPORT_WITHOUT = """
import importlib, json, sys

absent, wanted = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Hider:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hider(finder) for finder in sys.meta_path]
for name in wanted:
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def import_without(absent: tuple[str, ...], wanted: list[str]) -> subprocess.CompletedProcess[str]:
    """Import `wanted` in a fresh interpreter in which `absent` are not installed."""
    command = [sys.executable, "-c", IMPORT_WITHOUT, json.dumps(absent), json.dumps(wanted)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_stage_is_looked_at() -> None:
    assert {"model.training.loop", "model.training.stage0_autoencoder"} <= set(TRAINING)
    assert "model.training.stage2_diffusion" in TRAINING
    assert "model.networks.landmark_completion" in NETWORKS


def test_trainings_and_networks_import_nothing_heavy() -> None:
    answer = import_without(ABSENT, [*TRAINING, *NETWORKS])
    assert answer.returncode == 0, answer.stderr
    loaded = set(json.loads(answer.stdout.splitlines()[-1]))
    assert {"torch", "diffusers", "accelerate", "yaml", "numpy", "model"} <= loaded
    assert not loaded & set(ABSENT)


@pytest.mark.parametrize("module", ["model.face.alignment", "model.training.builders.prepare"])
def test_the_hider_hides(module: str) -> None:
    answer = import_without(ABSENT, [module])
    assert answer.returncode != 0
    assert "No module named 'cv2'" in answer.stderr
