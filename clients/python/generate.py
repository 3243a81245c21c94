"""Writes what is written by no hand in talkface_client, as `make openapi` does.

    openapi.json      ──▶ models.py     the service's answers
    async_client.py   ──▶ client.py     the same without async

A client meets servers that are newer than itself. So words that may be added (stages, codes, presets)
are plain strings, bounds are the server's business, and fields that are not known are ignored.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

HERE = Path(__file__).resolve().parent
DOCUMENT: Final = HERE.parents[1] / "openapi.json"
MODELS: Final = HERE / "talkface_client" / "models.py"
ASYNC_CLIENT: Final = HERE / "talkface_client" / "async_client.py"
CLIENT: Final = HERE / "talkface_client" / "client.py"
HEADER: Final = (
    '"""The service\'s answers. Written by generate.py from openapi.json; not by hand."""'
)
# The one set of words that is closed: a state is what a caller branches on.
CLOSED: Final = {"JobState"}
_DROPPED: Final = ("additionalProperties", "examples", "maximum", "minimum", "title")


def models(document: Path = DOCUMENT) -> str:
    """The module's text.

    Raises:
        subprocess.CalledProcessError: The generator failed.
    """
    schemas = json.loads(document.read_text())["components"]["schemas"]
    open_schemas = {name: _open(schema, name in CLOSED) for name, schema in schemas.items()}
    reduced = {
        "openapi": "3.1.0",
        "info": {"title": "talkface", "version": "1"},
        "paths": {},
        "components": {"schemas": open_schemas},
    }
    with tempfile.TemporaryDirectory() as folder:
        source, written = Path(folder, "openapi.json"), Path(folder, "models.py")
        source.write_text(json.dumps(reduced))
        subprocess.run(
            [
                *(sys.executable, "-m", "datamodel_code_generator", "--input", source),
                *("--input-file-type", "openapi", "--output", written),
                *("--output-model-type", "pydantic_v2.BaseModel"),
                *("--target-python-version", "3.11", "--disable-timestamp"),
                *("--use-standard-collections", "--use-union-operator", "--strict-nullable"),
                *("--collapse-root-models", "--use-schema-description", "--use-double-quotes"),
                *("--custom-file-header", HEADER, "--formatters", "builtin"),
            ],
            check=True,
        )
        return _formatted(written)


def _open(schema: Any, is_closed: bool = False) -> Any:
    """A schema without what a newer server may have changed."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = [name for name in _DROPPED if not _is_property(schema.get(name))]
    if "enum" in schema and not is_closed:
        dropped.append("enum")
    return {name: _open(value) for name, value in schema.items() if name not in dropped}


def _is_property(value: object) -> bool:
    """Whether it is a field that happens to have a keyword's name, such as a problem's `title`."""
    return (
        isinstance(value, dict)
        and "type" in value
        and bool({"title", "description"} & value.keys())
    )


def _formatted(path: Path) -> str:
    settings = ("--config", str(HERE.parents[1] / "pyproject.toml"), "--quiet")
    for command in (("check", "--fix", "--unsafe-fixes", "--select", "I,D2,D4,UP,F"), ("format",)):
        subprocess.run([sys.executable, "-m", "ruff", *command, *settings, path], check=True)
    return path.read_text()


# In this order: a longer word before one that it begins with.
_SYNC: Final = (
    (
        "for programs that do other things meanwhile.",
        "for programs that wait. Written by generate.py.",
    ),
    ("import asyncio\nimport os\n", "import os\nimport time\n"),
    ("asyncio.sleep", "time.sleep"),
    ("AsyncClient", "Client"),
    ("AsyncIterator", "Iterator"),
    ("AsyncBaseTransport", "BaseTransport"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclose", "close"),
    ("aread", "read"),
    ("aiter_bytes", "iter_bytes"),
    ("async ", ""),
    ("await ", ""),
)


def sync_client() -> str:
    """The text of client.py."""
    text = ASYNC_CLIENT.read_text()
    for word, other in _SYNC:
        text = text.replace(word, other)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "client.py")
        path.write_text(text)
        return _formatted(path)


if __name__ == "__main__":
    MODELS.write_text(models())
    CLIENT.write_text(sync_client())
