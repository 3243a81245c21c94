"""Makes videos in this process, one or many, with one warm model."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import ValidationError

from talkface.private_signer import sign_once, watermark_key_path
from talkface.terminal import Bar
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.entry import take_in
from worker.contract.intake.file_checks import file_sha256
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads
from worker.contract.messages import JobInput, SamplingOptions, Stage, with_notes
from worker.contract.signing import SigningRequest
from worker.contract.watermark import JOB_DIGITS
from worker.settings import WorkerSettings
from worker.video_file import Labelling
from worker.watermark import Watermarking

if TYPE_CHECKING:
    from worker.render_request import Renderer, RenderResult, Watcher


class Studio:
    """Makes videos in this process; the model is loaded for the first one.

    Args:
        limits: What is tolerated of the files.
        settings: The model's, and what marks the videos.
        states_consent: Whoever asks says that the people agreed.

    Raises:
        StartError: The watermark's key cannot be used.
    """

    def __init__(
        self, limits: IntakeLimits, settings: WorkerSettings, *, states_consent: bool = False
    ) -> None:
        self._limits = limits
        self._settings = settings
        self._states_consent = states_consent
        self._marking = Watermarking.of(settings.watermark, watermark_key_path())
        self._renderer: Renderer | None = None

    def make(
        self,
        uploads: Uploads,
        output: Path,
        options: SamplingOptions,
        bar: Bar,
        watcher: Watcher | None = None,
    ) -> dict[str, Any]:
        """Make one video; `output` is complete or does not change.

        Args:
            uploads: What it is made of.
            output: The MP4.
            options: The caller's choices.
            bar: Shows how far it has come.
            watcher: Sees it while it is drawn, or None.

        Returns:
            A summary with timings.

        Raises:
            IntakeError: A file cannot be used, or the output cannot be written.
            ModelError: The model cannot draw it.
            SigningError: It cannot be signed.
        """
        from worker.render_request import RenderRequest
        from worker.renderers import load_renderer

        started = time.perf_counter()
        try:
            # Beside the destination: the same file system, so the last step is a rename.
            scratch = tempfile.TemporaryDirectory(prefix=".talkface-", dir=output.resolve().parent)
        except OSError as error:
            raise IntakeError(
                ErrorCode.INVALID_OPTIONS, f"Cannot write to {output.parent}: {error.strerror}."
            ) from error
        with scratch as folder_name:
            folder = Path(folder_name)
            bar.stage(Stage.VALIDATING)
            job_input = take_in(uploads, folder, options, self._limits)
            if self._states_consent:
                job_input = job_input.model_copy(update={"consent": "stated"})
            accepted = time.perf_counter()

            if self._renderer is None:
                bar.title("loading the model")
                self._renderer = load_renderer(self._settings)
            loaded = time.perf_counter()

            drawn = folder / "output.mp4"
            labelling = Labelling(self._settings.label, self._settings.label_language)
            # There is no job; a number of its own says which video it is.
            job = uuid4().hex
            mark = None if self._marking is None else self._marking.for_job(job)
            request = RenderRequest.of(job_input, folder.joinpath, drawn, labelling, mark)
            result = self._renderer.render(replace(request, watcher=watcher), bar)
            job_input = with_notes(job_input, result.notes)
            credentials, rendered = None, time.perf_counter()
            if self._settings.content_credentials:
                bar.title("signing")
                unsigned, drawn = drawn, folder / "signed.mp4"
                credentials = sign_once(SigningRequest.of(job_input, result.info), unsigned, drawn)
            sha256, num_bytes = file_sha256(drawn), drawn.stat().st_size
            os.replace(drawn, output)
        timings_s = {
            Stage.VALIDATING.value: round(accepted - started, 3),
            "loading": round(loaded - accepted, 3),
            **result.timings_s,
            "signing": round(time.perf_counter() - rendered, 3),
            "total": round(time.perf_counter() - started, 3),
        }
        told = _summary(output, sha256, num_bytes, result, timings_s, job_input)
        told["label"] = request.labelling.name
        told["watermark_job"] = None if mark is None else job[:JOB_DIGITS]
        told["credentials"] = None if credentials is None else credentials.model_dump()
        return told


def _summary(
    output: Path,
    sha256: str,
    num_bytes: int,
    result: RenderResult,
    timings_s: dict[str, float],
    job_input: JobInput,
) -> dict[str, Any]:
    return {
        "output": str(output),
        "bytes": num_bytes,
        "sha256": sha256,
        "width": result.width,
        "height": result.height,
        "fps": result.fps,
        "num_frames": result.num_frames,
        "seconds": round(result.seconds, 3),
        "face_bbox_xyxy": result.face_bbox_xyxy,
        "timings_s": timings_s,
        "renderer": result.info.model_dump(),
        "video": None if result.video is None else result.video.model_dump(),
        "input": job_input.model_dump(mode="json"),
    }


def sampling_options(chosen: Mapping[str, Any]) -> SamplingOptions:
    """The options of one video.

    Raises:
        IntakeError: invalid_options.
    """
    try:
        return SamplingOptions.model_validate(chosen)
    except ValidationError as error:
        raise IntakeError(ErrorCode.INVALID_OPTIONS, _describe_options(error)) from None


def _describe_options(error: ValidationError) -> str:
    told = "; ".join(
        f"{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']} (got {issue['input']!r})"
        for issue in error.errors()
    )
    return f"An option is out of range: {told}."
