"""What may be wrong with a video that was made: words to sort a thousand of them by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from worker.contract.messages import JobRecord

SMALL_FACE_PX: Final = 128
"""Below this the mouth has too few pixels for its teeth to be seen."""
WEAK_SYNC: Final = 0.2
"""Agreement of lips and sound (`SyncScore`): other people's words reach 0.1, drawn lips have 0.4 to 0.7."""
MANY_HELD: Final = 0.1
"""Share of frames without a face from which on it is said."""


def warnings_of(record: JobRecord) -> Iterator[tuple[str, str]]:
    """Code and sentence of each, in the order of the road that a job takes."""
    for note in record.input.audio.notes:
        yield "audio_mended", note
    boxes = record.face_boxes or ()
    if len(boxes) > 1:
        index = record.input.options.face_index
        yield (
            "several_faces",
            f"There are {len(boxes)} faces, and number {index} speaks; 0 is the largest. "
            "`face_index` chooses another one.",
        )
    result = record.result
    if result is None:
        return
    if result.face_bbox_xyxy is not None:
        left, top, right, bottom = result.face_bbox_xyxy
        size_px = max(right - left, bottom - top)
        if size_px < SMALL_FACE_PX:
            yield (
                "small_face",
                f"The face has {size_px:.0f} pixels; below {SMALL_FACE_PX} a mouth has few details.",
            )
    sync = result.sync
    if sync is not None and sync.agreement < WEAK_SYNC:
        yield (
            "weak_sync",
            f"The lips may not say what is heard (agreement {sync.agreement:.2f}; videos that are right have "
            "about 0.6). Look at it: a face that is small, hidden or turned away reads so, too.",
        )
    video = result.video
    if video is None:
        return
    if len(video.held_frames) >= MANY_HELD * max(1, video.source_frames):
        yield (
            "face_lost",
            f"{len(video.held_frames)} of {video.source_frames} frames show no face that could be "
            "followed; there the last good pose was held.",
        )
    if video.looped:
        yield (
            "video_looped",
            "The voice is longer than the video, so the video runs backwards and forwards again.",
        )
