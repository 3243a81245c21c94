"""Which service the commands talk to, and how they end when it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from talkface.exits import EXIT_STATUS, Exit, fail
from worker.contract.errors import ErrorCode
from worker.contract.ledger_records import word_or_none

if TYPE_CHECKING:
    from talkface_client import AsyncClient, Client, RetryPolicy

Url = Annotated[
    str | None,
    typer.Option(
        envvar="TALKFACE_URL", help="Where the service is; default: http://127.0.0.1:8000."
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="TALKFACE_API_KEY", show_envvar=True, help="A key, where the service wants one."
    ),
]
Patience = Annotated[
    float,
    typer.Option(min=0, help="Seconds for which a service that is away or busy is asked again."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def connect(url: str | None, api_key: str | None, patience_s: float = 5.0) -> Client:
    """A client of the service."""
    client: Client = _package().Client(url, api_key=api_key, retry=retry_policy(patience_s))
    return client


def connect_async(url: str | None, api_key: str | None, patience_s: float) -> AsyncClient:
    """The same for several requests at a time."""
    retry = retry_policy(patience_s)
    client: AsyncClient = _package().AsyncClient(url, api_key=api_key, retry=retry)
    return client


def retry_policy(patience_s: float) -> RetryPolicy:
    """How long the client insists."""
    policy: RetryPolicy = _package().RetryPolicy(for_s=patience_s, longest_pause_s=60.0)
    return policy


def exit_status(code: str | None) -> int:
    """The status of an error code; 1 for one that a newer service has."""
    known = None if code is None else word_or_none(ErrorCode, code)
    return Exit.FAILED if known is None else EXIT_STATUS[known]


@contextmanager
def told(*, as_json: bool) -> Iterator[None]:
    """What the service refuses becomes a sentence and an exit status."""
    package = _package()
    try:
        yield
    except (package.ApiError, package.JobEndedError) as error:
        _fail(str(error), error.code, as_json=as_json)
    except package.UnreachableError as error:
        if as_json:
            typer.echo(json.dumps({"error": {"code": None, "detail": str(error)}}, indent=2))
        hint = "Is it running (`talkface up`)? --url or TALKFACE_URL says where."
        fail(Exit.UNREACHABLE, f"{error} {hint}")
    except (package.TalkfaceError, TimeoutError, OSError) as error:
        fail(Exit.FAILED, str(error))
    except KeyboardInterrupt:
        fail(Exit.INTERRUPTED, "interrupted")


def _fail(message: str, code: str | None, *, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"error": {"code": code, "detail": message}}, indent=2))
    fail(exit_status(code), message)


def _package() -> Any:
    try:
        import talkface_client
    except ModuleNotFoundError:
        fail(
            Exit.INCOMPLETE,
            "this command needs talkface-client, which is not installed. "
            "`make install` brings it, or `pip install ./clients/python`",
        )
    return talkface_client
