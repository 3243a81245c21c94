"""`talkface config`: what the settings of this machine's environment come to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from talkface.exits import Exit, fail
from worker.contract.environment import PREFIX, unknown_variables

app = typer.Typer(help="Settings: show them.", no_args_is_help=True)
_HIDDEN: Final = "***"


@app.callback()
def config() -> None:
    """Settings: show them."""


@app.command()
def show(
    changed: Annotated[
        bool, typer.Option("--changed", help="Only those that the environment sets.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show each setting, its value, and whether the environment says so. Secrets are hidden."""
    try:
        lines = [line for line in _lines() if line["is_set"] or not changed]
    except ValidationError as error:
        wrong = "; ".join(
            f"{PREFIX}{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors()
        )
        fail(Exit.USAGE, f"a setting is not valid: {wrong}")
    unknown = unknown_variables(os.environ)
    if as_json:
        typer.echo(json.dumps({"settings": lines, "unknown": unknown}, indent=2))
    else:
        table = Table("variable", "value", "from", "of", "what")
        for line in lines:
            origin = "environment" if line["is_set"] else "default"
            table.add_row(
                line["variable"], str(line["value"]), origin, line["of"], line["description"]
            )
        Console().print(table)
    for name in unknown:
        typer.echo(f"talkface: no process reads {name}", err=True)


def _lines() -> Iterator[dict[str, Any]]:
    """The settings of all processes; one that several have is told once."""
    from service.reconciler import ReconcilerSettings
    from worker.settings import WorkerSettings

    told: dict[str, dict[str, Any]] = {}
    kinds: tuple[tuple[str, type[BaseSettings]], ...] = (
        ("service", ReconcilerSettings),  # the API's, and a few of its own
        ("worker", WorkerSettings),
    )
    for owner, kind in kinds:
        values = kind().model_dump(mode="json")
        for name, field in kind.model_fields.items():
            variable = f"{PREFIX}{name.upper()}"
            if variable in told:
                told[variable]["of"] += f", {owner}"
                continue
            told[variable] = {
                "variable": variable,
                "value": _without_password(values[name]),
                "is_set": variable in os.environ,
                "of": owner,
                "description": field.description or "",
            }
    for variable, what in (
        ("TALKFACE_URL", "Where `submit` and its like find the service."),
        ("TALKFACE_API_KEY", "The key that they send."),
    ):
        value = os.environ.get(variable)
        is_secret = value and variable.endswith("KEY")
        told[variable] = {
            "variable": variable,
            "value": _HIDDEN if is_secret else value,
            "is_set": value is not None,
            "of": "client",
            "description": what,
        }
    yield from told.values()


def _without_password(value: Any) -> Any:
    """An address without its password; anything else as it is."""
    if not isinstance(value, str) or "@" not in value:
        return value
    password = urlsplit(value).password
    return value.replace(f":{password}@", f":{_HIDDEN}@") if password else value
