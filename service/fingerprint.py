"""What makes two requests the same request, for `Idempotency-Key`."""

from __future__ import annotations

import hashlib
import json

from service.schemas.form import TalkingFaceForm
from worker.contract.inputs import Uploads
from worker.contract.intake import file_sha256


def fingerprint(uploads: Uploads, form: TalkingFaceForm) -> str:
    """SHA-256 of the options and of the files' bytes; names and declared types play no part."""
    files = {
        "audio": [uploads.audio],
        "image": list(uploads.images),
        "video": [uploads.video] if uploads.video else [],
        "driving_video": [uploads.driving_video] if uploads.driving_video else [],
    }
    told = {
        # Without defaults, so that a request sent again during an upgrade is the same request to a
        # release that has one option more.
        "options": form.options().model_dump(mode="json", exclude_defaults=True),
        "callback_url": form.callback_url,
        "files": {name: [file_sha256(path) for path in paths] for name, paths in files.items()},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
