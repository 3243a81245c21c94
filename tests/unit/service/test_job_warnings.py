"""What may be wrong with a video that was made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from service.job_warnings import warnings_of
from worker.contract.messages import (
    AudioInput,
    ImageInput,
    JobInput,
    JobRecord,
    JobState,
    SamplingOptions,
)
from worker.contract.results import JobResult, RendererInfo, SyncScore, VideoUse


def record(notes: tuple[str, ...] = (), faces: int = 1, **result: Any) -> JobRecord:
    """A job that succeeded, of one large face."""
    audio = AudioInput(
        seconds=1, sample_rate_hz=48_000, channels=1, format="wav", bytes=1, sha256="a", notes=notes
    )
    image = ImageInput(width=640, height=640, format="png", bytes=1, sha256="b")
    info = RendererInfo(
        model_name="m", weights_sha256=None, attention_backend=None, dtype="fp32", device="cpu"
    )
    fields: dict[str, Any] = {
        "key": "results/1/2.mp4",
        "content_type": "video/mp4",
        "bytes": 1,
        "sha256": "c",
        "width": 640,
        "height": 640,
        "fps": 25.0,
        "num_frames": 100,
        "seconds": 4.0,
        "face_bbox_xyxy": (0.0, 0.0, 200.0, 300.0),
        "renderer": info,
    }
    return JobRecord(
        id="1",
        state=JobState.SUCCEEDED,
        created_at=datetime.now(UTC),
        request_id="r",
        input=JobInput(audio=audio, image=image, options=SamplingOptions()),
        face_boxes=((0.0, 0.0, 1.0, 1.0),) * faces,
        result=JobResult(**{**fields, **result}),
    )


def video(held: int, looped: bool = False) -> VideoUse:
    return VideoUse(source_frames=100, held_frames=tuple(range(held)), looped=looped)


@pytest.mark.parametrize(
    ("job", "codes"),
    [
        (record(sync=SyncScore(agreement=0.6, offset_ms=0, confidence=0.4, watched_s=1.6)), []),
        (
            record(sync=SyncScore(agreement=0.1, offset_ms=0, confidence=0.0, watched_s=1.6)),
            ["weak_sync"],
        ),
        (record(), []),
        (record(notes=("The sound was mono.",)), ["audio_mended"]),
        (record(faces=3), ["several_faces"]),
        (record(face_bbox_xyxy=(0.0, 0.0, 90.0, 127.0)), ["small_face"]),
        (record(face_bbox_xyxy=None), []),
        (record(video=video(held=9)), []),
        (record(video=video(held=10)), ["face_lost"]),
        (record(video=video(held=0, looped=True)), ["video_looped"]),
        (
            record(faces=2, video=video(held=99, looped=True)),
            ["several_faces", "face_lost", "video_looped"],
        ),
    ],
)
def test_each_has_a_word_and_a_sentence(job: JobRecord, codes: list[str]) -> None:
    told = list(warnings_of(job))

    assert [code for code, _ in told] == codes
    assert all(detail.endswith(".") for _, detail in told)
