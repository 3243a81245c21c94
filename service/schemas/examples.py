"""Jobs as they stand in the OpenAPI document; a test reads each as the schema that it explains."""

from __future__ import annotations

from typing import Any, Final

_ID: Final = "5f0c3b7e9d1a4c62a8e47b90c1d2e3f4"
_SELF: Final = f"/v1/jobs/{_ID}"

QUEUED_JOB: Final[dict[str, Any]] = {
    "id": _ID,
    "object": "job",
    "state": "queued",
    "stage": None,
    "progress": 0.0,
    "frames": None,
    "queue_position": 2,
    "eta_s": 41.5,
    "attempt": 1,
    "created_at": "2026-11-21T10:00:00Z",
    "started_at": None,
    "finished_at": None,
    "deadline_at": None,
    "cancel_requested_at": None,
    "expires_at": None,
    "timings_s": {},
    "input": {
        "audio": {
            "seconds": 10.0,
            "sample_rate_hz": 48000,
            "channels": 1,
            "format": "wav",
            "bytes": 960044,
            "sha256": "c" * 64,
        },
        "image": {
            "width": 1024,
            "height": 1024,
            "format": "jpeg",
            "bytes": 183000,
            "sha256": "a" * 64,
        },
        "video": None,
        "driving_video": None,
        "references": [],
        "options": {
            "seed": 0,
            "preset": "balanced",
            "num_inference_steps": None,
            "fps": 25.0,
            "face_index": 0,
            "check_face": True,
            "lip_strength": 1.0,
            "motion": None,
            "blink": True,
            "loop": False,
            "seconds": None,
            "audio_offset_ms": 0,
            "ranges": None,
            "audio_for": "film",
            "video_shorter": "bounce",
            "video_longer": "cut",
            "frame": "source",
        },
    },
    "face_boxes": None,
    "webhook": None,
    "result": None,
    "error": None,
    "warnings": [],
    "metadata": {"shot": "12"},
    "links": {
        "self": _SELF,
        "events": f"{_SELF}/events",
        "content": None,
        "cancel": f"{_SELF}/cancel",
        "thumbnail": None,
    },
}

RUNNING_JOB: Final[dict[str, Any]] = QUEUED_JOB | {
    "state": "running",
    "stage": "generating",
    "progress": 0.42,
    "frames": {"done": 105, "total": 250},
    "queue_position": None,
    "eta_s": 9.0,
    "started_at": "2026-11-21T10:00:01Z",
    "deadline_at": "2026-11-21T10:20:01Z",
    "timings_s": {"queued": 1.0},
    "face_boxes": [[301.0, 220.5, 702.0, 655.0]],
}

CANCELLING_JOB: Final[dict[str, Any]] = RUNNING_JOB | {
    "cancel_requested_at": "2026-11-21T10:00:05Z"
}

_ENDED: Final[dict[str, Any]] = {
    "stage": None,
    "eta_s": None,
    "finished_at": "2026-11-21T10:00:20Z",
    "expires_at": "2026-11-28T10:00:20Z",
    "links": QUEUED_JOB["links"] | {"cancel": None},
}

CANCELLED_JOB: Final[dict[str, Any]] = (
    CANCELLING_JOB
    | _ENDED
    | {
        "state": "cancelled",
        "timings_s": {"queued": 1.0, "total": 20.0},
    }
)

FAILED_JOB: Final[dict[str, Any]] = (
    RUNNING_JOB
    | _ENDED
    | {
        "state": "failed",
        "progress": 0.0,
        "frames": None,
        "face_boxes": [],
        "timings_s": {"queued": 1.0, "total": 20.0},
        "error": {
            "type": "urn:talkface:problem:no_face_found",
            "title": "No face found",
            "status": 422,
            "detail": "No face was found in the picture. Send one with a face that looks at the camera.",
            "code": "no_face_found",
            "request_id": "0b6ad9b1f3c54c0e8f64a1b9c8e2d7f0",
            "params": {},
            "errors": [],
        },
    }
)

SUCCEEDED_JOB: Final[dict[str, Any]] = (
    RUNNING_JOB
    | _ENDED
    | {
        "state": "succeeded",
        "progress": 1.0,
        "frames": {"done": 250, "total": 250},
        "timings_s": {
            "queued": 1.0,
            "landmarks": 0.9,
            "generating": 16.2,
            "signing": 0.1,
            "total": 20.0,
        },
        "result": {
            "content_type": "video/mp4",
            "bytes": 1843200,
            "sha256": "b" * 64,
            "width": 1024,
            "height": 1024,
            "fps": 25.0,
            "num_frames": 250,
            "seconds": 10.0,
            "url": f"{_SELF}/content",
            "face_bbox_xyxy": [301.0, 220.5, 702.0, 655.0],
            "timings_s": {"landmarks": 0.9, "generating": 16.2},
            "model_name": "talkface-tiny",
            "weights_sha256": "d" * 64,
            "attention_backend": "sdpa",
            "dtype": "float32",
            "device": "cpu",
            "video": None,
            "label": "always",
            "watermark": False,
            "credentials": {
                "manifest": "urn:c2pa:6e038cd6-fd55-4911-84a0-4455c30bfe2b",
                "certificate_sha256": "e" * 64,
                "timestamp": None,
            },
            "sync": {
                "agreement": 0.612,
                "offset_ms": 0,
                "confidence": 0.451,
                "watched_s": 1.6,
            },
        },
        "warnings": [
            {
                "code": "small_face",
                "detail": "The face has 112 pixels; below 128 a mouth has few details.",
            }
        ],
        "links": _ENDED["links"]
        | {"content": f"{_SELF}/content", "thumbnail": f"{_SELF}/thumbnail"},
    }
)

EVENT_STREAM: Final = """\
retry: 2000

id: 1795255201000-0
event: state
data: {"state":"running","stage":"validating","attempt":1,"progress":0.0,"frames":null}

id: 1795255209000-0
event: progress
data: {"state":"running","stage":"generating","attempt":1,"progress":0.42,"frames":{"done":105,"total":250}}

id: 1795255220000-0
event: job
data: {"id":"5f0c3b7e9d1a4c62a8e47b90c1d2e3f4","object":"job","state":"succeeded", ...}

"""

METRICS: Final = """\
# HELP tf_jobs_total Jobs that ended, by state and error code.
# TYPE tf_jobs_total counter
tf_jobs_total{code="",state="succeeded"} 41.0
tf_jobs_total{code="no_face_found",state="failed"} 2.0
# HELP tf_queue_depth Deliveries that wait.
# TYPE tf_queue_depth gauge
tf_queue_depth{queue="render"} 3.0
"""
