"""What makes two requests the same request, for `Idempotency-Key`."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from service.job_form import Received


def fingerprint(received: Received) -> str:
    """SHA-256 of the options and of the files' bytes; names and declared types play no part."""
    names = ("audio", "image", "video", "driving_video")
    told: dict[str, Any] = {
        # Without defaults, so that a request sent again during an upgrade is the same request to a
        # release that has one option more.
        "options": received.options.sampling().model_dump(mode="json", exclude_defaults=True),
        "callback_url": received.options.callback_url,
        "files": {name: [one.sha256 for one in received.files.get(name, [])] for name in names},
    }
    if received.options.retention_s is not None:
        # Only where it is used: what an older release knew has the same fingerprint here.
        told["retention_s"] = received.options.retention_s
    options, has_film = (
        received.options,
        "video" in received.files or "driving_video" in received.files,
    )
    if has_film and "fps" in options.model_fields_set and "fps" not in told["options"]:
        # A film at 25 frames a second, and one at its own rate, are two.
        told["options"]["fps"] = options.fps
    if received.options.spoken:
        # Not the speech: a voice server says nothing twice in the same way.
        told["spoken"] = received.options.spoken
        told["files"]["audio"] = []
    for name in ("avatar_id", "audio_id"):
        if (kept := getattr(received.options, name)) is not None:
            told[name] = kept
    if received.options.metadata:
        told["metadata"] = received.options.metadata
    if received.options.consent is not None:
        told["consent"] = received.options.consent
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
