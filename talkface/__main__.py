"""`talkface` and `python -m talkface`."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from talkface.config import app as config_app
from talkface.doctor import doctor
from talkface.evaluate import evaluate
from talkface.generate import generate
from talkface.keys import app as keys_app
from talkface.prepare import prepare
from talkface.rebuild import rebuild
from talkface.remote.jobs import cancel, download, list_jobs, status, wait
from talkface.remote.kept import avatars, faces, files
from talkface.remote.submit import submit
from talkface.train import train
from talkface.up import up
from talkface.verify import verify

app = typer.Typer(
    name="talkface",
    help="A portrait and a voice become a video of a talking face.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(generate)
app.command()(verify)
app.command()(prepare)
app.command()(train)
app.command()(evaluate)
app.command()(doctor)
app.command()(rebuild)
app.command()(submit)
app.command()(status)
app.command()(wait)
app.command()(download)
app.command()(cancel)
app.command("list")(list_jobs)
app.command()(faces)
app.add_typer(avatars, name="avatars")
app.add_typer(files, name="files")
app.add_typer(config_app, name="config")
app.add_typer(keys_app, name="keys")


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


@app.command()
def worker() -> None:
    """Run one worker process (settings: TALKFACE_* variables)."""
    # Replaced, not imported: the worker owns its signals and its exit status.
    os.execv(sys.executable, [sys.executable, "-m", "worker"])


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
