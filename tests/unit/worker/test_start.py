"""Processes that cannot start say why in a sentence, and that another try would end the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import ServiceSettings
from worker.contract.start import MISCONFIGURED, StartError, check_data_dir, read_settings
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("kind", "name", "value", "told"),
    [
        (
            ServiceSettings,
            "PORT",
            "99999",
            "TALKFACE_PORT: input should be less than or equal to 65535, got '99999'",
        ),
        (ServiceSettings, "READ_RATE", "often", "TALKFACE_READ_RATE: "),
        (
            ServiceSettings,
            "SANDBOX",
            "maybe",
            "TALKFACE_SANDBOX: input should be 'require' or 'warn', got 'maybe'",
        ),
        (
            WorkerSettings,
            "RENDERER",
            "crayon",
            "TALKFACE_RENDERER: input should be 'pipeline' or 'test-card'",
        ),
        (WorkerSettings, "LEASE_S", "soon", "TALKFACE_LEASE_S: input should be a valid number"),
    ],
)
def test_a_wrong_setting_is_told_by_its_variable(
    kind: type[ServiceSettings], name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TALKFACE_{name}", value)

    with pytest.raises(StartError) as caught:
        read_settings(kind)

    assert str(caught.value).startswith(told)
    assert "pydantic" not in str(caught.value)


def test_a_data_folder_that_is_somebody_elses_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(StartError, match=r"cannot be written by user \d+:\d+ .*chown"):
        check_data_dir(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("module", "variables", "told"),
    [
        ("service", {"PORT": "x"}, "TALKFACE_PORT"),
        ("service", {"DATA_DIR": "/proc/talkface"}, "cannot be written"),
        ("service.reconciler", {"LOST_AFTER_S": "-1"}, "TALKFACE_LOST_AFTER_S"),
        ("worker.validation", {"DATA_DIR": "/proc/talkface"}, "cannot be written"),
        ("worker", {"WEIGHTS_DIR": "/nowhere", "DATA_DIR": "."}, "the renderer cannot be loaded"),
    ],
)
def test_a_process_ends_with_a_sentence_and_not_with_a_traceback(
    module: str, variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    inherited = {name: value for name, value in os.environ.items() if "TALKFACE" not in name}
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env={**inherited, **{f"TALKFACE_{name}": value for name, value in variables.items()}},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == MISCONFIGURED, ended.stderr
    assert told in ended.stderr and "Traceback" not in ended.stderr
