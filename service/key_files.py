"""The files of API keys, which outlive Redis: digests and rights, never a key itself.

    <data_dir>/artifacts/keys/<id>/key.json       written once, when the key is made
    <data_dir>/artifacts/keys/<id>/revoked.json   written once, when it is revoked

Nothing is ever overwritten or deleted here, so a revocation cannot be undone by an older file.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.contract.artifacts import ArtifactExistsError, ArtifactNotFoundError, ArtifactStore

_FOLDER: Final = "keys"
_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")


class Revocation(BaseModel):
    """What stands in `revoked.json`; fields of a newer version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    revoked_at: datetime


def is_key_id(text: str) -> bool:
    """Whether `text` has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


class KeyFiles:
    """The keys in one artifact store. Records are JSON texts here and stay as they were written.

    Every method may raise OSError when the volume cannot be used.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def ids(self) -> list[str]:
        """Ids of all keys that have files, oldest first."""
        folders = self._store.names(_FOLDER)
        return sorted(filter(is_key_id, folders), key=lambda key_id: -folders[key_id])

    def has_record(self, key_id: str) -> bool:
        """Whether `key.json` exists."""
        return is_key_id(key_id) and "key.json" in self._store.names(f"{_FOLDER}/{key_id}")

    def is_revoked(self, key_id: str) -> bool:
        """Whether `revoked.json` exists."""
        return is_key_id(key_id) and "revoked.json" in self._store.names(f"{_FOLDER}/{key_id}")

    def record(self, key_id: str) -> str | None:
        """The text of `key.json`, or None if there is none."""
        return self._read(key_id, "key.json")

    def revoked_at(self, key_id: str) -> datetime | None:
        """When a key was revoked, or None if it was not."""
        if not self.is_revoked(key_id):
            return None
        try:
            return Revocation.model_validate_json(
                self._read(key_id, "revoked.json") or ""
            ).revoked_at
        except (ValidationError, PermissionError):
            # The file's existence revokes the key; a text that cannot be read must not undo it.
            return datetime.now(UTC)

    def write_record(self, key_id: str, text: str) -> bool:
        """Keep a record; False, and nothing changes, if there is one already.

        Raises:
            StorageFullError: The volume has no room.
        """
        return self._write(key_id, "key.json", text)

    def write_revocation(self, key_id: str, revoked_at: datetime) -> bool:
        """Keep the end of a key; False, and nothing changes, if it was revoked already.

        Raises:
            StorageFullError: The volume has no room.
        """
        revocation = Revocation(id=key_id, revoked_at=revoked_at)
        return self._write(key_id, "revoked.json", revocation.model_dump_json())

    def _read(self, key_id: str, name: str) -> str | None:
        if not is_key_id(key_id):
            return None
        try:
            with self._store.local_copy(f"{_FOLDER}/{key_id}/{name}") as path:
                return path.read_text("utf-8", "replace")
        except (ArtifactNotFoundError, FileNotFoundError):
            return None

    def _write(self, key_id: str, name: str, text: str) -> bool:
        if not is_key_id(key_id):
            raise ValueError(f"not the id of a key: {key_id!r}")
        with self._store.scratch() as folder:
            (folder / name).write_text(text, "utf-8")
            try:
                self._store.put(f"{_FOLDER}/{key_id}/{name}", folder / name)
            except ArtifactExistsError:
                return False
        return True
