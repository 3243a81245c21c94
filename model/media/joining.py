"""Films that were encoded one by one become one film: copied packet by packet, with the sound muxed once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.errors import EncodingError, UnsupportedMediaError
from model.media.ffmpeg import ChildStderr, end_child, ffmpeg_path, input_arguments
from model.media.mp4_arguments import mp4_arguments, sound_arguments
from model.media.probe import probe


def join_videos(
    parts: Sequence[Path],
    lengths: Sequence[int],
    path: Path,
    *,
    fps: float,
    sound: Path | None = None,
    channels: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Join films of `PictureEncoder` with equal settings; each begins with a key frame.

    Args:
        parts: Films without sound, in their order; they stay.
        lengths: Frames of each.
        path: The MP4; an existing file is replaced on success.
        fps: Frames per second of all.
        sound: A file with a sound track, or None; see `VideoWriter`.
        channels: Of the sound, where `check_sound` was asked before.
        tags: Metadata of the file.

    Raises:
        EncodingError: A file cannot be read or written; carries ffmpeg's last lines.
    """
    listing, partial = (
        path.with_name(f".{path.name}.{os.getpid()}.{label}") for label in ("list", "partial")
    )
    command = [ffmpeg_path(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error"]
    try:
        if len(parts) == 1:
            command += input_arguments(parts[0])
        else:
            listing.write_text(_listing(parts, lengths, fps))
            command += ["-f", "concat", "-safe", "0", "-protocol_whitelist", "file"]
            command += ["-i", f"file:{listing}"]
        if sound is not None:
            command += input_arguments(sound)
        command += ["-map", "0:v:0", "-c:v", "copy"]
        if sound is not None:
            channels = channels or check_sound(sound)
            command += ["-map", "1:a:0", *sound_arguments(channels, sum(lengths) / fps)]
        _run([*command, *mp4_arguments(tags or {}), f"file:{partial}"], path)
        os.replace(partial, path)
    except OSError as error:
        raise EncodingError(f"cannot write a video to {path}: {error.strerror}") from error
    finally:
        listing.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def check_sound(sound: Path) -> int:
    """Channels of a sound that is to be muxed; fails before the first frame is rendered."""
    try:
        channels = probe(sound).audio_channels
    except (OSError, UnsupportedMediaError) as error:
        raise EncodingError(f"cannot mux the sound: {error}") from error
    if channels is None:
        raise EncodingError(f"cannot mux the sound: {sound.name} has no sound track")
    return channels


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
    try:
        if process.wait() != 0:
            raise EncodingError(f"ffmpeg could not write {path}: {stderr.last_words()}")
    finally:
        end_child(process)
