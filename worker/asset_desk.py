"""Prepares what callers keep: one thread in a process that does the same for jobs.

    decode     in the validator: the film of an avatar becomes input.mkv
    inspect    in the inspector: its faces are found, and faces.npz remembers them for every job

CPU only, one asset at a time. What a caller did wrong ends as `failed` with the same problem that a
job would have had; whatever else goes wrong is tried again, by whoever is next.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis

from model.errors import InputError
from worker.contract.artifacts import ArtifactNotFoundError, ArtifactStore
from worker.contract.asset_registry import TASK_LEASE_S, AssetRegistry
from worker.contract.assets import Asset, AssetState, DeskName
from worker.contract.errors import IntakeError
from worker.contract.logs import bound, get_logger
from worker.contract.messages import JobFailure
from worker.contract.queues import REDIS_AWAY, connect
from worker.failures import FULL_PAUSE_S, describe, is_storage_unusable
from worker.progress import Stop

_HOLD_EVERY_S: Final = TASK_LEASE_S / 4
_PAUSE_S: Final = 1.0
_log = get_logger("assets")

Change = Callable[[Asset], Asset]
Prepare = Callable[[Asset, Callable[[], None]], Change]
"""Does one task, and says how the asset changes; the callable is to be called again and again meanwhile."""


class _StopError(Exception):
    """This process ends, or the asset is gone; whatever was done is void."""


class AssetDesk:
    """Takes one task after the other, in a thread of its own.

    Args:
        redis: A client of its own.
        store: Where the files are.
        desk: Which tasks.
        prepare: Does one; its files are published when it returns.
        stop: The wish that this process ends.
    """

    def __init__(
        self, redis: Redis, store: ArtifactStore, desk: DeskName, prepare: Prepare, stop: Stop
    ) -> None:
        self._assets = AssetRegistry(redis)
        self._store = store
        self._desk: DeskName = desk
        self._prepare = prepare
        self._stop = stop

    def run(self) -> None:
        """Work until `stop`; Redis may be away for any time."""
        while not self._stop.is_set():
            try:
                self._assets.wait_for_task(self._desk)
                while not self._stop.is_set():
                    asset = self._assets.take(self._desk)
                    if asset is None:
                        break
                    with bound(asset_id=asset.id):
                        self._do(asset)
            except REDIS_AWAY as error:
                _log.warning("redis_unavailable", kind=type(error).__name__)
                self._stop.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001  the thread must not end before its process does
                _log.error("desk_failed", exc_info=True)
                self._stop.wait(_PAUSE_S)

    def _do(self, asset: Asset) -> None:
        """One task: every way out leaves the registry right."""
        held_at = time.monotonic()

        def look_up() -> None:
            nonlocal held_at
            if self._stop.is_set():
                raise _StopError
            if time.monotonic() - held_at >= _HOLD_EVERY_S:
                held_at = time.monotonic()
                if self._assets.get(asset.id) is None:
                    raise _StopError
                self._assets.hold(self._desk, asset.id)

        try:
            change = self._prepare(asset, look_up)
        except _StopError:
            self._assets.let_go(self._desk, asset.id)
            return
        except ArtifactNotFoundError:
            # Deleted while we looked.
            _log.info("asset_gone")
            return
        except REDIS_AWAY:
            raise
        except Exception as error:  # noqa: BLE001  the task's boundary
            failure = self._failure_of(error)
            if failure is None:
                return
            self._finish(
                asset,
                lambda one: one.model_copy(
                    update={"state": AssetState.FAILED, "failure": failure, "pending": None}
                ),
            )
            return
        self._finish(asset, change)

    def _failure_of(self, error: Exception) -> JobFailure | None:
        """What the caller did wrong; None where somebody has to try again."""
        if is_storage_unusable(error):
            self._stop.wait(FULL_PAUSE_S)
            return None
        if isinstance(error, IntakeError | InputError):
            return describe(error)
        # Due again when its lease is over, at most three times.
        _log.warning("asset_not_prepared", exc_info=True)
        return None

    def _finish(self, asset: Asset, change: Change) -> None:
        sizes = 0
        for name in self._store.names(asset.prefix):
            with contextlib.suppress(ArtifactNotFoundError):
                sizes += self._store.stat(f"{asset.prefix}/{name}").bytes
        after = self._assets.update(
            asset.id, lambda one: change(one).model_copy(update={"stored_bytes": sizes, "tries": 0})
        )
        if after is None:
            # Deleted meanwhile: what was published for it belongs to nobody.
            self._store.delete_prefix(asset.prefix)
            return
        code = None if after.failure is None else after.failure.code.value
        _log.info("asset_prepared", desk=self._desk, state=after.state.value, code=code)


@contextmanager
def desk_thread(
    redis_url: str, store: ArtifactStore, desk: DeskName, prepare: Prepare, stop: Stop
) -> Iterator[None]:
    """A desk at work for as long as the context lasts.

    Args:
        redis_url: It has a client of its own.
        store: Where the files are.
        desk: Which tasks.
        prepare: See `AssetDesk`.
        stop: Set when this process is asked to stop; set at the end of the context, too.
    """
    redis = connect(redis_url, timeout_s=15.0)
    worker = AssetDesk(redis, store, desk, prepare, stop)
    thread = threading.Thread(target=worker.run, name=f"asset-{desk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10.0)
        redis.close()
