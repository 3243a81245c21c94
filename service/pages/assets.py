"""The static files of the pages, under addresses that change with their content.

    /static/<digest of all files>/app.js

A browser keeps what it has for a year, and asks for everything anew after a change. Scripts import
each other by relative addresses, so one digest in the folder's place serves them all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
TEXTS: Final = Path(__file__).parent / "texts"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Asset:
    """One static file.

    Args:
        path: Where it lies.
        content_type: What it is sent as.
        etag: A strong entity tag.
    """

    path: Path
    content_type: str
    etag: str


class Assets:
    """All static files, read once to name them; a name that is not in this list is not served."""

    def __init__(self) -> None:
        paths = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*")}
        paths |= {f"texts/{path.name}": path for path in TEXTS.iterdir()}
        whole = hashlib.sha256()
        self._assets: dict[str, Asset] = {}
        for name, path in sorted(paths.items()):
            if path.suffix not in _TYPES:
                continue  # a folder, or something that an editor left
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{name}\n{digest}\n".encode())
            self._assets[name] = Asset(path, _TYPES[path.suffix], f'"{digest[:32]}"')
        self.digest = whole.hexdigest()[:16]

    def find(self, name: str) -> Asset | None:
        """A file by its name below `static/`; None if there is none."""
        return self._assets.get(name)

    def names(self) -> list[str]:
        """All names."""
        return list(self._assets)
