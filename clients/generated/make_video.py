"""Makes a video with the client that openapi-python-client wrote.

    python make_video.py <folder of talkface_generated> <url> <image> <audio> <output>

Run by `generate.py` and by a test.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any


def make_video(url: str, image: Path, audio: Path, output: Path) -> None:
    """Send two files, wait, and save the MP4.

    Raises:
        RuntimeError: The service refused the request, or the job failed.
    """
    # Written by the generator a moment ago, so there is nothing to check types against.
    from talkface_generated import Client  # type: ignore[import-not-found]
    from talkface_generated.api.jobs import (  # type: ignore[import-not-found]
        create_talking_face,
        get_content,
        get_job,
    )
    from talkface_generated.models import (  # type: ignore[import-not-found]
        CreateTalkingFaceBody,
        CreateTalkingFaceBodyPreset,
        JobPublic,
        JobState,
    )
    from talkface_generated.types import File  # type: ignore[import-not-found]

    def file(path: Path) -> Any:
        return File(payload=io.BytesIO(path.read_bytes()), file_name=path.name)

    client = Client(base_url=url, timeout=90.0)
    body = CreateTalkingFaceBody(
        image=[file(image)], audio=file(audio), preset=CreateTalkingFaceBodyPreset.PREVIEW
    )
    job = create_talking_face.sync(client=client, body=body)
    while isinstance(job, JobPublic) and job.state in (JobState.QUEUED, JobState.RUNNING):
        job = get_job.sync(client=client, job_id=job.id, wait=30)
    if not isinstance(job, JobPublic) or job.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"no video: {job}")
    video = get_content.sync(client=client, job_id=job.id)
    output.write_bytes(video.payload.read())


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    make_video(sys.argv[2], *map(Path, sys.argv[3:6]))
