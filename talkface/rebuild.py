"""`talkface rebuild`: write a lost ledger anew from the files of its jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from redis import RedisError

from service.sweep import Sweeper
from talkface.exits import Exit, fail
from worker.contract.artifacts import ArtifactStore
from worker.contract.ledger import Ledger
from worker.contract.queues import connect
from worker.contract.rebuild import rebuild as rebuild_ledger
from worker.contract.recovery import Recovery


def rebuild(
    data_dir: Annotated[
        Path,
        typer.Option(envvar="TALKFACE_DATA_DIR", help="Folder of uploads, results and the queue."),
    ] = Path("talkface-data"),
) -> None:
    """Accept every stored job that Redis does not know; needs a running `talkface up` or Redis.

    Jobs whose video exists come back as succeeded, all others wait again, also those that had
    failed or been cancelled.
    """
    redis = connect(os.environ.get("TALKFACE_REDIS_URL") or _private_url(data_dir))
    store, ledger = ArtifactStore(data_dir), Ledger(redis)
    try:
        told = rebuild_ledger(store, ledger)
        # Only now may the reconciler erase what this ledger does not know.
        Sweeper(store, ledger, Recovery(redis), orphan_after_s=0.0, record_kept_s=0.0).adopt()
    except RedisError as error:
        fail(
            Exit.START_FAILED,
            f"cannot reach Redis ({type(error).__name__}). Start `talkface up` with this "
            "--data-dir, or set TALKFACE_REDIS_URL",
        )
    typer.echo(
        f"{told.finished} with their video, {told.queued} queued again, "
        f"{told.known} known already, {told.unreadable} without a readable job.json"
    )


def _private_url(data_dir: Path) -> str:
    """The Redis that `talkface up` keeps in its data folder."""
    return f"unix://{quote(str(data_dir.resolve() / 'redis' / 'redis.sock'))}"
