"""`talkface` and `python -m talkface`."""

from __future__ import annotations

import os
import sys

import typer

from talkface.doctor import doctor
from talkface.evaluate import evaluate
from talkface.generate import generate
from talkface.keys import app as keys_app
from talkface.prepare import prepare
from talkface.rebuild import rebuild
from talkface.train import train
from talkface.up import up
from talkface.verify import verify

app = typer.Typer(
    name="talkface",
    help="A portrait and a voice become a video of a talking face.",
    no_args_is_help=True,
    add_completion=False,
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
app.add_typer(keys_app, name="keys")


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
