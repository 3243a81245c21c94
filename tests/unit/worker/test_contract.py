"""What the processes share stays light, bounded and complete."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from service.provenance.settings import SignerSettings
from service.reconciler import ReconcilerSettings
from worker.contract.environment import SETTING_NAMES, unknown_variables
from worker.contract.messages import SamplingOptions
from worker.settings import WorkerSettings

HEAVY = {"torch", "numpy", "cv2", "diffusers", "model.pipelines"}


@pytest.mark.parametrize(
    "module", ["worker.jobs", "worker.gpu_worker", "worker.__main__", "worker.runtime"]
)
def test_a_worker_module_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert module in loaded
    assert HEAVY.isdisjoint(loaded)


def test_the_decoder_child_imports_next_to_nothing() -> None:
    code = "import sys, worker.contract.intake.picture_child; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert {"pydantic", "redis", "fastapi", *HEAVY}.isdisjoint(loaded)


def test_every_setting_of_every_process_is_a_known_variable() -> None:
    kinds = (ReconcilerSettings, WorkerSettings, SignerSettings)
    fields = {name for kind in kinds for name in kind.model_fields}

    assert fields == SETTING_NAMES


def test_a_misspelt_variable_is_noticed() -> None:
    environment = {"TALKFACE_REDIS_URL": "x", "TALKFACE_REDIS_ULR": "x", "PATH": "x"}

    assert unknown_variables(environment) == ["TALKFACE_REDIS_ULR"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"preset": "best"},
        {"num_inference_steps": 0},
        {"num_inference_steps": 51},
        {"preset": "preview", "num_inference_steps": 4},
        {"fps": 9.9},
        {"fps": 61},
        {"face_index": 16},
        {"lip_strength": 2.1},
        {"lip_strength": float("nan")},
        {"motion": "wild"},
        {"motion": 1.6},
        {"motion": "-0.1"},
        {"motion": "nan"},
        {"seconds": 0.1},
        {"seconds": 3601},
        {"blink": "perhaps"},
        {"unknown": 1},
    ],
)
def test_an_option_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SamplingOptions.model_validate(wrong)


def test_options_cannot_be_changed_on_the_way() -> None:
    options = SamplingOptions()

    with pytest.raises(ValidationError):
        options.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("still", "still"),
        ("natural", "natural"),
        ("0.5", 0.5),
        (1, 1.0),
        ("1.5", 1.5),
        (None, None),
    ],
)
def test_motion_is_a_name_or_a_strength(sent: object, meant: object) -> None:
    options = SamplingOptions.model_validate({"motion": sent})

    assert options.motion == meant
    assert SamplingOptions.model_validate_json(options.model_dump_json()) == options


def test_a_wrong_motion_is_told_in_one_sentence() -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingOptions.model_validate({"motion": "wild"})

    (error,) = caught.value.errors()
    assert error["loc"] == ("motion",)
    assert "still, subtle, natural or a number from 0 to 1.5" in error["msg"]


def test_what_is_usual_is_not_stored_so_that_an_older_worker_reads_it() -> None:
    assert SamplingOptions().model_dump(exclude_defaults=True) == {}
    chosen = SamplingOptions(motion="still", blink=False, loop=True, seconds=3)
    assert chosen.model_dump(exclude_defaults=True) == {
        "motion": "still",
        "blink": False,
        "loop": True,
        "seconds": 3.0,
    }
