"""What the worker does with the pieces of a film that is watched while it is drawn.

    FragmentWriter's thread ──take──▶ queue ──▶ a thread of this job: put, then tell Redis

The drawing never waits for it: a store that is slow, or a Redis that is away, cost the watchers their
film and not the job its video.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Final

from redis import RedisError

from worker.contract.artifacts import ArtifactError, ArtifactExistsError, ArtifactStore
from worker.contract.ledger import Ledger
from worker.contract.live_films import (
    MOST_PIECES,
    LiveFilms,
    PieceCount,
    erase_pieces,
    piece_key,
)
from worker.contract.logs import get_logger

_WAITING: Final = 256
"""Pieces that may wait to be put: two minutes of film."""
_TELL_EVERY_S: Final = 0.25
_END_S: Final = 10.0
_log = get_logger(__name__)


class LiveFilm:
    """The pieces of one attempt of a job, published as they come.

    Args:
        store: Where they go.
        ledger: Knows whether the job was deleted.
        films: Told how many there are.
        job_id: The job.
        token: What it was claimed with.
    """

    def __init__(
        self, store: ArtifactStore, ledger: Ledger, films: LiveFilms, job_id: str, token: str
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._films = films
        self._job_id = job_id
        self._token = token
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._is_complete = False
        self._has_ended = False
        self._count = self._told = 0
        self._told_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="live-film", daemon=True)
        self._thread.start()

    def take(self, piece: bytes | None) -> None:
        """The next piece, or None: the film is complete. See `FragmentWriter`.

        Raises:
            LiveFilmEndedError: Nobody will see it: the store failed or is too slow, or the job is not ours.
        """
        if piece is None:
            self._is_complete = True
            return
        if self._has_ended:
            raise LiveFilmEndedError("its pieces are not taken any more")
        try:
            self._pieces.put_nowait(piece)
        except queue.Full:
            raise LiveFilmEndedError(f"{_WAITING} pieces of it wait for the store") from None

    def close(self) -> None:
        """Wait until everything that was taken is published; not for ever."""
        with contextlib.suppress(queue.Full):
            self._pieces.put(None, timeout=_END_S)
        self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            self._publish()
        except (ArtifactError, OSError, LiveFilmEndedError) as error:
            _log.warning("live_film_ended", job_id=self._job_id, kind=type(error).__name__)
        self._has_ended = True

    def _publish(self) -> None:
        while (piece := self._next()) is not None:
            self._put(piece)
            # A head alone shows nothing, and telling of it would delay the first picture.
            if self._count > 1 and time.monotonic() >= self._told_at + _TELL_EVERY_S:
                self._tell()
        if self._count:
            until = time.monotonic() + _END_S / 2
            while not self._tell() and time.monotonic() < until:
                time.sleep(_TELL_EVERY_S)

    def _next(self) -> bytes | None:
        """The next piece; meanwhile, what was not told yet is told as soon as it may."""
        while self._told < self._count > 1:
            left_s = self._told_at + _TELL_EVERY_S - time.monotonic()
            with contextlib.suppress(queue.Empty):
                return self._pieces.get(timeout=max(left_s, 0.001))
            self._tell()
        return self._pieces.get()

    def _put(self, piece: bytes) -> None:
        """Publish a piece, or leave it to the attempt that did before."""
        if self._count >= MOST_PIECES:
            raise LiveFilmEndedError("it is too long")
        key = piece_key(self._job_id, self._count)
        with self._store.scratch() as folder:
            path = folder / "piece.mp4"
            path.write_bytes(piece)
            try:
                self._store.put(key, path)
            except ArtifactExistsError:
                # Its head tells players how the fragments are encoded: they have to go with it.
                if self._count == 0 and _read(self._store, key) != piece:
                    raise LiveFilmEndedError("another release began it") from None
        self._count += 1

    def _tell(self) -> bool:
        """Tell how many pieces there are; False if Redis has to be asked again.

        Raises:
            LiveFilmEndedError: The job is not ours.
        """
        self._told_at = time.monotonic()
        try:
            # An earlier attempt may have come further.
            known = self._films.count(self._job_id)
            done = max(self._count, known.done)
            total = self._count if self._is_complete else known.total
            is_ours = self._films.report(self._job_id, self._token, PieceCount(done, total))
            if not is_ours and not self._ledger.owner(self._job_id)[0]:
                # It was deleted, and what was put since then would stay.
                erase_pieces(self._store, self._job_id)
        except RedisError:
            return False
        if not is_ours:
            raise LiveFilmEndedError("the job is not ours")
        self._told = self._count
        return True


class LiveFilmEndedError(Exception):
    """A film cannot be watched any longer."""


def _read(store: ArtifactStore, key: str) -> bytes:
    with store.local_copy(key) as path:
        return path.read_bytes()
