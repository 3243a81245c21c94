"""A film that is watched while it is drawn: its pieces in the artifact store, their number in Redis.

    worker ──put──▶ results/<job>/live-00000.mp4 (head), live-00001.mp4, ...     a key is written once
           ──report──▶ job:<id> fragments, fragments_total; an event wakes who watches

A piece that was put is final: the next attempt of the job draws everything again and adds what is
missing. The count only tells of pieces that lie there, so nobody has to look for them.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, cast

from redis import Redis

from worker.contract.artifacts import ArtifactStore
from worker.contract.ledger_scripts import COMMON, job_key

_NAME: Final = re.compile(r"live-\d{5}\.mp4")
MOST_PIECES: Final = 100_000

# ARGV id, token, pieces, pieces of the whole film or ''. 0 = not ours.
_REPORT: Final = (
    COMMON
    + """
local key = job_key(ARGV[1])
if redis.call('HGET', key, 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', key, 'fragments', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', key, 'fragments_total', ARGV[4]) end
note(ARGV[1], 'fragment')
return 1
"""
)


class PieceCount(NamedTuple):
    """How many pieces of a film there are, the head among them, and of how many; None: not known yet."""

    done: int = 0
    total: int | None = None


class LiveFilms:
    """What the ledger knows of films that are watched while they are drawn.

    Every method may raise `redis.RedisError`.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._report = redis.register_script(_REPORT)

    def count(self, job_id: str) -> PieceCount:
        """The pieces that were reported, by whatever attempt."""
        names = ["fragments", "fragments_total"]
        stored = cast(list[bytes | None], self._redis.hmget(job_key(job_id), names))
        done, total = (None if value is None else int(value) for value in stored)
        return PieceCount(done or 0, total)

    def report(self, job_id: str, token: str, count: PieceCount) -> bool:
        """Tell of pieces that lie in the store; False, and nothing told, if the job is not ours."""
        total = "" if count.total is None else count.total
        return bool(self._report(args=[job_id, token, count.done, total]))


def piece_key(job_id: str, number: int) -> str:
    """Artifact key of a piece; 0 is the head."""
    return f"results/{job_id}/live-{number:05d}.mp4"


def is_piece(name: str) -> bool:
    """Whether a file below `results/<job>/` is a piece."""
    return _NAME.fullmatch(name) is not None


def erase_pieces(store: ArtifactStore, job_id: str) -> int:
    """Erase all pieces of a job.

    Returns:
        How many there were.
    """
    names = [name for name in store.names(f"results/{job_id}") if is_piece(name)]
    for name in names:
        store.delete(f"results/{job_id}/{name}")
    return len(names)
