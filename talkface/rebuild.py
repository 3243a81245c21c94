"""`talkface rebuild`: write a lost ledger anew from the files of its keys and jobs.

Also as `python -m talkface.rebuild` in the API's image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from redis import RedisError

from service.erasure import MediaEraser
from service.key_recovery import KeyRecovery
from service.provenance.authority import Authority
from service.provenance.settings import SignerSettings
from service.sweep import Sweeper
from talkface.exits import Exit, fail
from talkface.redis_address import running_redis_url
from worker.contract.artifact_settings import StoreSettings, open_store
from worker.contract.artifacts import ArtifactError
from worker.contract.asset_registry import AssetRegistry
from worker.contract.ledger import Ledger
from worker.contract.media import MediaIndex
from worker.contract.queues import connect
from worker.contract.rebuild import rebuild as rebuild_ledger
from worker.contract.rebuild import rebuild_assets
from worker.contract.recovery import Recovery

_REMEDY = "Start `talkface up` with this --data-dir, or set TALKFACE_REDIS_URL"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def rebuild(
    data_dir: Annotated[
        Path,
        typer.Option(envvar="TALKFACE_DATA_DIR", help="Folder of uploads, results and the queue."),
    ] = Path("talkface-data"),
) -> None:
    """Bring back every stored key, job, avatar and file that Redis does not know; needs a running Redis.

    Revoked keys stay revoked. Jobs whose video exists come back as succeeded, those that had failed
    or been cancelled as that. All others wait again, unless their media are gone: these fail.
    """
    url = running_redis_url(data_dir)
    if url is None:
        fail(Exit.START_FAILED, f"no Redis runs for {data_dir}. {_REMEDY}")
    redis = connect(url)
    store, ledger = open_store(StoreSettings(data_dir=data_dir)), Ledger(redis)
    key_recovery, assets = KeyRecovery(redis, store), AssetRegistry(redis)
    try:
        # Keys first: a job that is back can be asked for at once.
        keys = key_recovery.restore()
        told = rebuild_ledger(store, ledger)
        kept = rebuild_assets(store, assets)
        # Only now may the reconciler erase what this ledger does not know.
        sweeper = Sweeper(
            store,
            ledger,
            Recovery(redis),
            key_recovery,
            MediaEraser(store, ledger, MediaIndex(redis)),
            assets,
            orphan_after_s=0.0,
            record_kept_s=0.0,
        )
        sweeper.adopt()
    except RedisError as error:
        # Not the message: it may repeat the URL with its password.
        fail(Exit.START_FAILED, f"cannot reach Redis ({type(error).__name__}). {_REMEDY}")
    except (ArtifactError, OSError) as error:
        fail(Exit.FAILED, f"cannot use the files in {data_dir}: {error}")
    typer.echo(_signing(data_dir))
    typer.echo(
        f"keys: {keys.restored} brought back, {keys.known} known already, "
        f"{keys.unreadable} without a readable key.json; revoked among them: {keys.revoked}"
    )
    typer.echo(f"avatars and files: {kept} brought back")
    typer.echo(
        f"jobs: {told.finished} with their video, {told.queued} queued again, "
        f"{told.known} known already, {told.unreadable} without a readable job.json, "
        f"{told.ended} failed or cancelled, {told.without_media} failed because their media are gone"
    )


def _signing(data_dir: Path) -> str:
    """Whether videos that were signed before will still be called ours."""
    folder = SignerSettings(data_dir=data_dir).folder
    made_at = Authority(folder).made_at()
    if made_at is None:
        return (
            f"signing: no keys in {folder}. If the signer has none elsewhere, restore them from the "
            "backup: videos that other keys signed are called those of an unknown signer"
        )
    return f"signing: keys of {made_at:%Y-%m-%d %H:%M} UTC in {folder}; what they signed is ours"


if __name__ == "__main__":
    app()
