"""What the files of a job are called; in the artifact store they lie below `inputs/<job>/`.

A file that is decoded after the 202 lies there as it came (`upload-video`) until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.contract.messages import JobInput, Pending

PORTRAIT: Final = "input.png"
ORIGINAL: Final = "original.jpg"
"""The portrait as large as it was sent, where it was shrunk: a small face is cut out of it."""
VIDEO: Final = "input.mkv"
DRIVING: Final = "driving.mkv"
FACES: Final = "faces.npz"
"""What the detector found in the pictures of an avatar (model.face.remembered_faces)."""
SPEECH: Final = "speech.flac"
SOUND: Final = "sound.flac"
FILES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "audio": (SPEECH, SOUND),
    "video": (VIDEO,),
    "driving_video": (DRIVING,),
}
"""Names of the normalised files by form field."""


def upload_name(field: str) -> str:
    """Name of a file that is stored as it came, by its form field."""
    return f"upload-{field.replace('_', '-')}"


def reference_name(number: int) -> str:
    """Name of a further picture, counted from 0."""
    return f"reference-{number + 1}.png"


def input_files(job_input: JobInput) -> list[str]:
    """Names of all normalised files of a job."""
    pictures = [VIDEO] if job_input.video is not None else [PORTRAIT]
    if job_input.image is not None and job_input.image.has_original:
        pictures.append(ORIGINAL)
    if job_input.driving_video is not None:
        pictures.append(DRIVING)
    pictures += [reference_name(number) for number in range(len(job_input.references))]
    if job_input.has_faces:
        pictures.append(FACES)
    return [*pictures, SPEECH, SOUND]


def stored_files(job_input: JobInput) -> list[str]:
    """Names of all files that are stored of an input when it is accepted."""
    pending = () if job_input.pending is None else job_input.pending.files
    left: set[str] = set()
    for name in pending:
        left |= set(FILES_OF[name])
    decoded = [name for name in input_files(job_input) if name not in left]
    return [*decoded, *(upload_name(name) for name in pending)]


def decoded_files(pending: Pending) -> list[str]:
    """Names of the files that decoding what is pending makes."""
    return [made for name in pending.files for made in FILES_OF[name]]
