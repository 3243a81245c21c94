"""`talkface avatars`, `files` and `faces`: what a service keeps to use it again, and who is in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from talkface.batch import kind_of
from talkface.exits import EXIT_STATUS, fail
from talkface.remote.connection import ApiKey, Json, Url, connect, exit_status, told
from worker.contract.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from talkface_client import AvatarPublic

avatars = typer.Typer(
    help="Portraits and films that a service keeps, checked once.", no_args_is_help=True
)
files = typer.Typer(help="Voices that a service keeps.", no_args_is_help=True)

_Retention = Annotated[
    int | None, typer.Option(min=1, help="Erase it after so many seconds; default: the service's.")
]
_Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids.")]


@avatars.command("add")
def add_avatar(
    source: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A portrait, or a film to dub.")
    ],
    retention: _Retention = None,
    consent: Annotated[
        bool, typer.Option("--consent", help="State that the person agreed.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            max=60,
            help="Seconds to wait until it is prepared; used before, it gains nothing.",
        ),
    ] = 60.0,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Keep a portrait or a film, wait until it is prepared, and print its id.

    Use it with `talkface submit --set avatar_id=ID`.
    """
    is_video = kind_of(source) == "video"
    with told(as_json=as_json), connect(url, api_key) as client:
        avatar = client.create_avatar(
            None if is_video else source,
            wait_s=wait,
            video=source if is_video else None,
            retention_s=retention,
            consent="stated" if consent else None,
        )
    if avatar.error is not None and not as_json:
        fail(exit_status(avatar.error.code), f"{avatar.error.detail} [{avatar.error.code}]")
    _print(avatar, avatar.id, as_json=as_json)


@avatars.command("list")
def list_avatars(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show your avatars, newest first."""
    with told(as_json=as_json), connect(url, api_key) as client:
        every = list(client.avatars())
    rows = [
        (
            one.id,
            one.state,
            "video" if one.video else "image",
            "" if one.faces is None else str(len(one.faces)),
            f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            _refusal(one),
        )
        for one in every
    ]
    _table(("avatar", "state", "kind", "faces", "created", "error"), rows, every, as_json=as_json)


@avatars.command("rm")
def remove_avatars(ids: _Ids, url: Url = None, api_key: ApiKey = None) -> None:
    """Erase avatars; jobs that were made with them go on."""
    with told(as_json=False), connect(url, api_key) as client:
        for one in ids:
            client.delete_avatar(one)


@files.command("add")
def add_file(
    source: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A voice.")],
    retention: _Retention = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Keep a voice, and print its id. Use it with `talkface submit --set audio_id=ID`."""
    with told(as_json=as_json), connect(url, api_key) as client:
        file = client.create_file(source, retention_s=retention)
    _print(file, file.id, as_json=as_json)


@files.command("list")
def list_files(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show your files, newest first."""
    with told(as_json=as_json), connect(url, api_key) as client:
        every = list(client.files())
    rows = [
        (one.id, f"{one.audio.seconds:g}", f"{one.created_at:%Y-%m-%d %H:%M:%S}") for one in every
    ]
    _table(("file", "seconds", "created"), rows, every, as_json=as_json)


@files.command("rm")
def remove_files(ids: _Ids, url: Url = None, api_key: ApiKey = None) -> None:
    """Erase files; jobs that were made with them go on."""
    with told(as_json=False), connect(url, api_key) as client:
        for one in ids:
            client.delete_file(one)


def faces(
    picture: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A picture.")],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show the faces in a picture: whom face_index means, and who would be refused."""
    with told(as_json=as_json), connect(url, api_key) as client:
        found = client.faces(picture)
    if not as_json and not found.faces:
        fail(EXIT_STATUS[ErrorCode.NO_FACE_FOUND], f"no face was found in {picture}")
    rows = [
        (
            str(face.index),
            f"{face.size_px:.0f}",
            " ".join(f"{edge:.2f}" for edge in face.box),
            face.refused or "",
        )
        for face in found.faces
    ]
    names = ("face_index", "pixels", "left top right bottom", "refused")
    if as_json:
        _print(found, "", as_json=True)
    else:
        _table(names, rows, [], as_json=False)


def _refusal(avatar: AvatarPublic) -> str:
    return avatar.error.code if avatar.error else ""


def _print(answer: BaseModel, word: str, *, as_json: bool) -> None:
    typer.echo(answer.model_dump_json(indent=2) if as_json else word)


def _table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    every: Sequence[BaseModel],
    *,
    as_json: bool,
) -> None:
    if as_json:
        typer.echo("[" + ",\n".join(one.model_dump_json(indent=2) for one in every) + "]")
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
