"""Records of release 0.2.1 as files, for checkouts without a history: what Redis and the disk had.

python -m tests.neighbour.stored --write      writes tests/data/release-0.2.1 anew

ledger.json     every key of Redis, as its type and its value
files.json      the texts that lay in the artifact store: job.json, and those beside a video
records.json    what `records.py` told: ids of jobs by what they are, and an API key
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from redis import Redis

from tests.integration.conftest import RedisServer
from tests.neighbour.processes import run_in
from tests.previous_release import PREVIOUS_VERSION, extract
from worker.contract.artifacts import ArtifactStore
from worker.contract.results import FinishedRender

FOLDER: Final = Path(__file__).resolve().parents[1] / "data" / f"release-{PREVIOUS_VERSION}"
Pairs = list[tuple[bytes, Any]]
_PREFIX: Final = "tf:"
"""Keys of RQ itself are left out: its deliveries are disposable."""


def load(redis: Redis, store: ArtifactStore, scratch: Path) -> dict[str, Any]:
    """Put the stored records into an empty Redis and an empty store.

    A video is replaced by as many zeros.

    Args:
        redis: A client.
        store: Gets the files.
        scratch: A folder for a moment.

    Returns:
        What `records.py` told.
    """
    for key, entry in _read("ledger").items():
        _restore(redis, key, entry["type"], entry["value"])
    for name, text in _read("files").items():
        _put(store, name, text.encode(), scratch)
        if name.startswith("results/"):
            result = FinishedRender.model_validate_json(text).result
            _put(store, result.key, bytes(result.bytes), scratch)
    return _read("records")


def write() -> None:
    """Let the previous release write its records, and store them."""
    with tempfile.TemporaryDirectory(prefix="tf-stored-") as name:
        folder = Path(name)
        tree, server = extract(folder / "previous"), RedisServer(folder)
        server.start()
        try:
            told = run_in(tree, "records", server.url, folder / "data").answer
            with server.client() as redis:
                found = cast(list[bytes], redis.keys(f"{_PREFIX}*"))
                keys = sorted(key.decode() for key in found)
                ledger = {key: _dumped(redis, key) for key in keys}
        finally:
            server.stop()
        artifacts = folder / "data" / "artifacts"
        files = {
            str(path.relative_to(artifacts)): path.read_text()
            for path in sorted(artifacts.glob("*/*/*.json"))
        }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stem, content in (("ledger", ledger), ("files", files), ("records", told)):
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # Workers are named after their host, which is nobody's business.
        (FOLDER / f"{stem}.json").write_text(text.replace(socket.gethostname(), "host") + "\n")


def _read(stem: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{stem}.json").read_text())
    return content


def _put(store: ArtifactStore, name: str, content: bytes, scratch: Path) -> None:
    (scratch / "file").write_bytes(content)
    store.put(name, scratch / "file")


def _dumped(redis: Redis, key: str) -> dict[str, Any]:
    kind = cast(bytes, redis.type(key)).decode()
    value: object
    if kind == "hash":
        value = _text(redis.hgetall(key))
    elif kind == "zset":
        value = _text(dict(cast(Pairs, redis.zrange(key, 0, -1, withscores=True))))
    elif kind == "stream":
        entries = cast(Pairs, redis.xrange(key))
        value = [[entry_id.decode(), _text(fields)] for entry_id, fields in entries]
    elif kind == "string":
        value = cast(bytes, redis.get(key)).decode()
    else:
        raise ValueError(f"{key} is a {kind}, expected hash, zset, stream or string")
    return {"type": kind, "value": value}


def _restore(redis: Redis, key: str, kind: str, value: Any) -> None:
    if kind == "hash":
        redis.hset(key, mapping=value)
    elif kind == "zset":
        redis.zadd(key, value)
    elif kind == "stream":
        for entry_id, fields in value:
            redis.xadd(key, fields, id=entry_id)
    else:
        redis.set(key, value)


def _text(raw: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        name.decode(): value.decode() if isinstance(value, bytes) else value
        for name, value in raw.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    write()
