"""Films that were encoded one by one become one film: copied packet by packet, with the sound muxed once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.errors import EncodingError
from model.media.ffmpeg import ChildStderr, ffmpeg_path
from model.media.video_writer import check_sound, mp4_arguments, mux_command


def join_videos(
    parts: Sequence[Path],
    lengths: Sequence[int],
    path: Path,
    *,
    fps: float,
    sound: Path | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Join films of `VideoWriter` with equal settings; each begins with a key frame.

    Args:
        parts: Films without sound, in their order.
        lengths: Frames of each.
        path: The MP4; an existing file is replaced on success.
        fps: Frames per second of all.
        sound: A file with a sound track, or None; see `VideoWriter`.
        tags: Metadata of the file.

    Raises:
        EncodingError: A file cannot be read or written; carries ffmpeg's last lines.
    """
    told = dict(tags or {})
    channels = 0 if sound is None else check_sound(sound)
    beside = [
        path.with_name(f".{path.name}.{os.getpid()}.{label}")
        for label in ("list", "joined", "partial")
    ]
    listing, joined, partial = beside
    try:
        listing.write_text(_listing(parts, lengths, fps))
        command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
        command += ["-f", "concat", "-safe", "0", "-protocol_whitelist", "file"]
        command += ["-i", f"file:{listing}", "-map", "0:v:0", "-c:v", "copy"]
        _run([*command, *mp4_arguments(told), f"file:{joined}"], path)
        complete = joined
        if sound is not None:
            complete = partial
            seconds = sum(lengths) / fps
            mux = mux_command(joined, sound, partial, channels=channels, seconds=seconds, tags=told)
            _run(mux, path)
        os.replace(complete, path)
    except OSError as error:
        raise EncodingError(f"cannot write a video to {path}: {error.strerror}") from error
    finally:
        for one in beside:
            one.unlink(missing_ok=True)


def _listing(parts: Sequence[Path], lengths: Sequence[int], fps: float) -> str:
    """For ffmpeg's concat demuxer. Lengths are told, so that each begins at a whole number of frames."""
    lines = ["ffconcat version 1.0"]
    for part, length in zip(parts, lengths, strict=True):
        quoted = str(part.absolute()).replace("'", "'\\''")
        lines += [f"file 'file:{quoted}'", f"duration {length / fps:.9f}"]
    return "\n".join(lines) + "\n"


def _run(command: Sequence[str], path: Path) -> None:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    stderr = ChildStderr(process.stderr)
    if process.wait() != 0:
        raise EncodingError(f"ffmpeg could not join {path}: {stderr.last_words()}")
