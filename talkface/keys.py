"""`talkface keys`: API keys of a deployment, also as `python -m talkface.keys` in the API's image."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from redis import RedisError
from rich.console import Console
from rich.table import Column, Table

from service.keys import ApiKey, KeyStore, Scope
from service.secret_file import InstallSecret, SecretFileError
from service.settings import ServiceSettings
from service.webhooks import webhook_secret
from talkface.exits import EXIT_STATUS, Exit, fail
from talkface.redis_address import running_redis_url
from worker.contract.artifact_settings import open_store
from worker.contract.artifacts import ArtifactError
from worker.contract.errors import ErrorCode
from worker.contract.queues import connect

app = typer.Typer(
    help="API keys: make, list, revoke.", no_args_is_help=True, pretty_exceptions_enable=False
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="TALKFACE_DATA_DIR",
        help="Data folder of the service; a private Redis of `talkface up` is found in it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whom or what the key is for; shown in lists.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; may be repeated. Default: read and write."),
    ] = None,
    env: Annotated[str, typer.Option(help="A word inside the key, such as live or test.")] = "live",
    like: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Share jobs and quotas of this key, which it replaces."),
    ] = None,
    max_concurrent_jobs: Annotated[
        int | None, typer.Option(min=1, help="Open jobs at a time; default: the deployment's.")
    ] = None,
    max_jobs_a_day: Annotated[
        int | None, typer.Option(min=1, help="Jobs a day (UTC); default: the deployment's.")
    ] = None,
    max_stored_bytes: Annotated[
        int | None, typer.Option(min=1, help="Bytes of its files; default: the deployment's.")
    ] = None,
    max_media_s_a_day: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds of sound a day (UTC); default: the deployment's."),
    ] = None,
    max_open_media_s: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds of sound of open jobs; default: the deployment's."),
    ] = None,
    retention_s: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds that results are kept; default: the deployment's."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Ends by itself after so long.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once, with the secret that its webhooks are signed with."""
    settings, keys = _open(data_dir)
    try:
        principal = _find(keys, like).principal if like else None
        record, text = keys.create(
            name,
            env=env,
            scopes=scope or (Scope.READ, Scope.WRITE),
            principal=principal,
            max_concurrent_jobs=max_concurrent_jobs,
            max_jobs_a_day=max_jobs_a_day,
            max_stored_bytes=max_stored_bytes,
            max_media_s_a_day=max_media_s_a_day,
            max_open_media_s=max_open_media_s,
            retention_s=retention_s,
            expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
        )
        secret = webhook_secret(InstallSecret(settings.secret_path), record.principal)
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    except (SecretFileError, ArtifactError, OSError) as error:
        fail(Exit.FAILED, str(error))
    except RedisError as error:
        _store_unavailable(error)
    if as_json:
        typer.echo(json.dumps({"key": text, "webhook_secret": secret, **_public(record)}))
        return
    typer.echo(text)
    typer.echo(f"webhook secret: {secret}")
    typer.echo("Keep the key now; it is stored nowhere and cannot be shown again.", err=True)
    if not settings.require_keys:
        typer.echo("Keys count only where TALKFACE_REQUIRE_KEYS=true is set.", err=True)


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show all keys, without their secrets."""
    _, keys = _open(data_dir)
    try:
        records = keys.all()
    except RedisError as error:
        _store_unavailable(error)
    if as_json:
        typer.echo(json.dumps([_public(record) for record in records]))
        return
    table = Table(
        Column("id", no_wrap=True), "name", "env", "scopes", "jobs of", "created", "state"
    )
    now = datetime.now(UTC)
    for record in records:
        table.add_row(
            record.id,
            record.name,
            record.env,
            " ".join(sorted(record.scopes)),
            record.principal,
            f"{record.created_at:%Y-%m-%d %H:%M}",
            _state(record, now),
        )
    Console().print(table)


@app.command()
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id that `list` shows, or so much of it as is unique."
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """End a key at once and for ever; its jobs stay."""
    _, keys = _open(data_dir)
    try:
        key_id = _whole_id(keys, key_id)
        is_known = keys.revoke(key_id)
    except ValueError as error:
        fail(Exit.USAGE, str(error))
    except RedisError as error:
        _store_unavailable(error)
    except (ArtifactError, OSError) as error:
        fail(
            Exit.FAILED,
            f"{key_id} is refused from now on, but that could not be written to a file ({error}). "
            "Make room and revoke it again, so that it stays revoked if Redis is lost",
        )
    if not is_known:
        fail(Exit.USAGE, f"there is no key {key_id}; `talkface keys list` shows them")
    typer.echo(f"{key_id} is revoked")


def _open(data_dir: Path | None) -> tuple[ServiceSettings, KeyStore]:
    settings = ServiceSettings(data_dir=data_dir) if data_dir else ServiceSettings()
    url = running_redis_url(settings.data_dir) or settings.redis_url
    return settings, KeyStore(connect(url), open_store(settings))


def _find(keys: KeyStore, key_id: str) -> ApiKey:
    for record in keys.all():
        if record.id == key_id:
            return record
    raise ValueError(f"there is no key {key_id}; `talkface keys list` shows them")


def _whole_id(keys: KeyStore, beginning: str) -> str:
    """The id that begins so; what is no beginning of a known one is left as it is.

    Raises:
        ValueError: Several keys begin so.
    """
    found = [record.id for record in keys.all() if record.id.startswith(beginning)]
    if len(found) > 1 and beginning not in found:
        raise ValueError(f"{len(found)} keys begin with {beginning}: {', '.join(found)}. Name one")
    return found[0] if len(found) == 1 and beginning else beginning


def _public(record: ApiKey) -> dict[str, object]:
    # Not the fields of a newer version, which may be no one's business.
    return record.model_dump(mode="json", include=ApiKey.model_fields.keys() - {"sha256"})


def _state(record: ApiKey, now: datetime) -> str:
    if record.revoked_at is not None:
        return "revoked"
    return "valid" if record.is_valid(now) else "expired"


def _store_unavailable(error: RedisError) -> NoReturn:
    # Not the message: it may repeat the URL with its password.
    fail(
        EXIT_STATUS[ErrorCode.STORE_UNAVAILABLE],
        f"Redis cannot be reached ({type(error).__name__}). Set TALKFACE_REDIS_URL, or --data-dir "
        "to the folder of a running `talkface up`",
    )


if __name__ == "__main__":
    app()
