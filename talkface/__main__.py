"""`talkface` and `python -m talkface`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

_COMMANDS: Final = {
    "up": "talkface.up:up",
    "generate": "talkface.generate:generate",
    "verify": "talkface.verify:verify",
    "prepare": "talkface.prepare:prepare",
    "train": "talkface.train:train",
    "evaluate": "talkface.evaluate:evaluate",
    "doctor": "talkface.doctor:doctor",
    "rebuild": "talkface.rebuild:rebuild",
    "submit": "talkface.remote.submit:submit",
    "status": "talkface.remote.jobs:status",
    "wait": "talkface.remote.jobs:wait",
    "download": "talkface.remote.jobs:download",
    "cancel": "talkface.remote.jobs:cancel",
    "list": "talkface.remote.jobs:list_jobs",
    "faces": "talkface.remote.kept:faces",
    "worker": "talkface.__main__:worker",
    "avatars": "talkface.remote.kept:avatars",
    "files": "talkface.remote.kept:files",
    "config": "talkface.config:app",
    "keys": "talkface.keys:app",
}
"""Commands and groups of commands, in the order of the help: where the function or the group is."""


class _Commands(Mapping[str, Any]):
    """Each command is imported when it is asked for: all of them take as long as `up` has for its start."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = _COMMANDS[name].partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            command: Any = get_group(found)
        else:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command()(found)
            command = get_command(alone)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(TyperGroup):
    """All commands, none of them imported yet."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]


app = typer.Typer(
    name="talkface",
    cls=_Group,
    help="A portrait and a voice become a video of a talking face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"talkface {version('talkface')}")
        raise typer.Exit


@app.callback()
def talkface(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """A portrait and a voice become a video of a talking face."""


def worker() -> None:
    """Run one worker process (settings: TALKFACE_* variables)."""
    # Replaced, not imported: the worker owns its signals and its exit status.
    os.execv(sys.executable, [sys.executable, "-m", "worker"])


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
