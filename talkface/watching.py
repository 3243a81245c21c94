"""Who sees a film of `talkface generate` while it is drawn: standard output, or a player.

drawing ──fragments──▶ standard output              --output -
──▶ queue ──▶ mpv or ffplay     --play
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.render_request import Watcher

STDOUT: Final = Path("-")
_PLAYERS: Final = {
    "mpv": ("--really-quiet", "--force-window=yes", "--title=talkface", "-"),
    "ffplay": ("-loglevel", "error", "-autoexit", "-window_title", "talkface", "-i", "pipe:0"),
}


@contextmanager
def stdout_watcher() -> Iterator[tuple[Watcher, Path]]:
    """A film for standard output; who draws it needs a file all the same, which goes with the context.

    Raises:
        IntakeError: Standard output is a terminal.
    """
    from model.media.fragments import write_all

    if sys.stdout.isatty():
        raise IntakeError(
            ErrorCode.INVALID_OPTIONS,
            "--output - writes an MP4 to standard output, and that is a terminal. Pipe it into a "
            "player or a file.",
        )
    sys.stdout.flush()
    # Whatever a library prints goes to standard error: it would break the film.
    film = os.dup(1)
    os.dup2(2, 1)
    try:
        with tempfile.TemporaryDirectory(prefix="talkface-") as folder:
            yield Watcher(write_all(film), is_vital=True), Path(folder, "film.mp4")
    finally:
        os.dup2(film, 1)
        os.close(film)


@contextmanager
def player() -> Iterator[Watcher]:
    """A window in which the film plays; the context lasts until it has played to its end.

    Raises:
        IntakeError: There is no player.
    """
    found = next((name for name in _PLAYERS if shutil.which(name)), None)
    if found is None:
        raise IntakeError(
            ErrorCode.INVALID_OPTIONS,
            f"--play needs {' or '.join(_PLAYERS)}, and neither is on the PATH. Install one of them, "
            "or leave --play out.",
        )
    process = subprocess.Popen([found, *_PLAYERS[found]], stdin=subprocess.PIPE)
    assert process.stdin is not None
    # A player reads as fast as it plays; the drawing shall not wait for it.
    pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    thread = threading.Thread(target=_feed, args=(process, pieces), daemon=True)
    thread.start()

    def take(piece: bytes | None) -> None:
        if piece is not None:
            pieces.put(piece)

    try:
        yield Watcher(take)
    except BaseException:
        process.kill()
        raise
    finally:
        pieces.put(None)
        thread.join()
        process.wait()


def _feed(process: subprocess.Popen[bytes], pieces: queue.SimpleQueue[bytes | None]) -> None:
    assert process.stdin is not None
    # Whoever closes the window has seen enough; the file is made all the same.
    with contextlib.suppress(OSError), process.stdin:
        while (piece := pieces.get()) is not None:
            process.stdin.write(piece)
            process.stdin.flush()
