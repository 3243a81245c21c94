"""Commands that need neither a model nor a service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from talkface.__main__ import app

ASKS_FOR_COMPLETION = {
    "COMP_WORDS": "talkface ca",
    "COMP_CWORD": "1",
    "_TALKFACE_COMPLETE": "complete_bash",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TALKFACE_REDIS_URL", "TALKFACE_URL", "TALKFACE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_version() -> None:
    ended = CliRunner().invoke(app, ["--version"])

    assert ended.exit_code == 0
    assert ended.stdout.startswith("talkface ")


def test_a_shell_completes_commands() -> None:
    ended = CliRunner().invoke(app, [], env=ASKS_FOR_COMPLETION, prog_name="talkface")

    assert ended.stdout.split() == ["cancel"]


def test_settings_are_shown_without_secrets() -> None:
    environment = {
        "TALKFACE_REDIS_URL": "redis://user:hunter2@host:1/0",
        "TALKFACE_API_KEY": "tf_live_hunter3",
        "TALKFACE_PROT": "1",
    }

    ended = CliRunner().invoke(app, ["config", "show", "--changed", "--json"], env=environment)

    assert ended.exit_code == 0, ended.output
    shown = json.loads(ended.stdout)
    values = {line["variable"]: line["value"] for line in shown["settings"]}
    assert values["TALKFACE_REDIS_URL"] == "redis://user:***@host:1/0"
    assert values["TALKFACE_API_KEY"] == "***"
    assert "hunter" not in ended.output
    assert "TALKFACE_PROT" in shown["unknown"]
    assert "no process reads TALKFACE_PROT" in ended.stderr


def test_a_wrong_setting_is_named() -> None:
    ended = CliRunner().invoke(app, ["config", "show"], env={"TALKFACE_PORT": "many"})

    assert ended.exit_code == 2
    assert "TALKFACE_PORT" in ended.stderr


@pytest.mark.parametrize(
    ("command", "output"), [("generate", "o.webm"), ("submit", "o.webm"), ("submit", "-")]
)
def test_an_output_that_is_no_mp4_is_refused(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("i.jpg", "a.wav"):
        (tmp_path / name).write_bytes(b"x")
    arguments = [command, "--image", "i.jpg", "--audio", "a.wav", "--output", output]

    ended = CliRunner().invoke(app, arguments)

    assert ended.exit_code == 15, ended.output
    assert "The video is an MP4" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "i.jpg"]


def test_a_service_that_is_not_there_has_an_exit_status_of_its_own() -> None:
    # Port 9 (discard) of this machine: nobody listens.
    ended = CliRunner().invoke(
        app, ["submit", "--set", "seconds=1", "--patience", "0", "--url", "http://127.0.0.1:9"]
    )

    assert ended.exit_code == 6
    assert "talkface up" in ended.stderr
