"""Workers and GPUs are matched before anybody imports torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from talkface.gpus import AUTO, count_workers, gpu_of, visible_gpus
from talkface.up import _parse_workers


@pytest.fixture
def two_gpus(tmp_path: Path) -> dict[str, str]:
    """A machine whose driver knows two of them."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --query-gpu=uuid ] && printf "GPU-a\\nGPU-b\\n"\n')
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_auto_is_one_worker_a_gpu(
    two_gpus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", two_gpus["PATH"])

    gpus = visible_gpus(two_gpus)

    assert gpus == ["GPU-a", "GPU-b"]
    assert count_workers(AUTO, gpus) == 2
    assert [gpu_of(number, gpus) for number in (1, 2)] == [
        {"CUDA_VISIBLE_DEVICES": "GPU-a"},
        {"CUDA_VISIBLE_DEVICES": "GPU-b"},
    ]


def test_more_workers_than_gpus_share_them_in_turn() -> None:
    gpus = ["0", "1"]

    assert count_workers(3, gpus) == 3
    assert [gpu_of(number, gpus)["CUDA_VISIBLE_DEVICES"] for number in (1, 2, 3)] == ["0", "1", "0"]


def test_without_a_gpu_auto_is_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    gpus = visible_gpus({"PATH": str(tmp_path)})

    assert (gpus, count_workers(AUTO, gpus), gpu_of(1, gpus)) == ([], 1, {})


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2, 3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "TALKFACE_DEVICE": "cpu"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "TALKFACE_DEVICE": "cuda:1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "TALKFACE_DEVICE": "cuda"}, ["0", "1"]),
    ],
)
def test_what_is_chosen_already_stays_chosen(environment: dict[str, str], gpus: list[str]) -> None:
    assert visible_gpus(environment) == gpus


@pytest.mark.parametrize("text", ["0", "65", "-1", "many", "1.5"])
def test_a_number_of_workers_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="or auto"):
        _parse_workers(text)


def test_a_number_of_workers_is_read() -> None:
    assert [_parse_workers(text) for text in ("1", "64", "auto")] == [1, 64, AUTO]
