"""The sound of a job is moved to where its film's lips say it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.media.frames import FrameSource
    from model.pipelines.audio_offset import AudioOffset
    from model.pipelines.talking_face import TalkingFacePipeline


def put_sound_in_place(
    pipeline: TalkingFacePipeline,
    film: FrameSource,
    speech: Path,
    sound: Path | None,
    face_index: int,
    folder: Path,
) -> tuple[Path, Path | None, AudioOffset]:
    """Both files of a sound, written again where they are early or late, and by how much they were.

    Args:
        pipeline: Whose completer hears and whose detector sees; it has one.
        film: Whose face says what is heard.
        speech: 16 kHz mono.
        sound: The upload's own track, or None.
        face_index: Which face.
        folder: Where moved files go; the caller's scratch.
    Raises:
        model.errors.InputError: The film shows no face.
    """
    from model.media.audio import load_waveform, move_sound
    from model.pipelines.audio_offset import find_audio_offset

    completer, detector = pipeline.landmark_completer, pipeline.detector
    assert detector is not None
    offset = find_audio_offset(completer, detector, film, load_waveform(speech), face_index)
    if not offset.milliseconds:
        return speech, sound, offset

    def move(path: Path) -> Path:
        moved = folder / f"moved-{path.name}"
        move_sound(path, moved, offset.milliseconds)
        return moved

    return move(speech), None if sound is None else move(sound), offset
