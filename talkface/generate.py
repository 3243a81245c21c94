"""`talkface generate`: one video, in this process, without a server."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from talkface.exits import EXIT_STATUS, Exit
from talkface.private_signer import sign_once
from worker.contract.errors import ErrorCode, IntakeError, ParamValue
from worker.contract.intake.entry import take_in
from worker.contract.intake.file_checks import file_sha256
from worker.contract.intake.formats import types_of
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads
from worker.contract.messages import JobInput, SamplingOptions, Stage, with_notes
from worker.contract.signing import SigningError, SigningRequest
from worker.failures import classify
from worker.settings import WorkerSettings
from worker.video_file import Labelling

if TYPE_CHECKING:
    from worker.runtime import RenderResult

_MAX_VIDEO_BYTES: Final = 4 * 2**30
"""The file is the operator's own, so only the length of a video is a matter here."""

FILE: Final = {"exists": True, "dir_okay": False}
"""An option that names a file to read."""

# What a stage is called in front of the bar.
STAGE_TITLES: dict[Stage, str] = {
    Stage.VALIDATING: "reading the files",
    Stage.DETECTING: "finding the face",
    Stage.LANDMARKS: "listening to the speech",
    Stage.GENERATING: "drawing",
    Stage.ENCODING: "writing the film",
}

# The options that say what is animated, by what.
_Audio = Annotated[
    Path | None,
    typer.Option(help=f"Speech: {types_of('audio')}.", **FILE),
]
_Seconds = Annotated[
    float | None,
    typer.Option(help="Instead of speech: the portrait listens for so many seconds."),
]
_Images = Annotated[
    list[Path] | None,
    typer.Option(
        help=f"Portrait: {types_of('image')}. Given again: further pictures of the same person.",
        **FILE,
    ),
]
_Video = Annotated[
    Path | None,
    typer.Option(help=f"Instead of a portrait, a video to dub: {types_of('video')}.", **FILE),
]
_DrivingVideo = Annotated[
    Path | None,
    typer.Option(help="A video whose head motion the portrait takes over.", **FILE),
]
_Motion = Annotated[
    str | None,
    typer.Option(
        help="How the portrait's head moves: still, subtle, natural (default) or 0 to 1.5."
    ),
]
_Blink = Annotated[
    bool | None,
    typer.Option("--blink/--no-blink", help="Whether its eyes blink; default: they do."),
]
_Loop = Annotated[
    bool | None, typer.Option("--loop", help="The last frame is the first one again.")
]
_CheckFace = Annotated[
    bool,
    typer.Option(
        "--check-face/--any-face",
        help="Refuse a face that looks away or whose mouth is covered, or draw it as well as it can be.",
    ),
]
_Label = Annotated[
    str | None,
    typer.Option(
        help="Visible label: off, intro (3 s) or always; default: TALKFACE_LABEL, always."
    ),
]
_LabelLanguage = Annotated[
    str | None, typer.Option(help="Its language, such as en, de or fr; default: en.")
]
_Consent = Annotated[
    bool, typer.Option("--consent", help="State that the person agreed; the video says so.")
]
_AudioOffsetMs = Annotated[
    str | None,
    typer.Option(
        help="Move the sound: above 0 it is heard later, below 0 earlier; `auto`: as the lips of the "
        "video ask for; default: 0."
    ),
]


def generate(
    output: Annotated[
        Path, typer.Option(dir_okay=False, help="The MP4 to write; an existing file is replaced.")
    ],
    audio: _Audio = None,
    seconds: _Seconds = None,
    image: _Images = None,
    video: _Video = None,
    driving_video: _DrivingVideo = None,
    preset: Annotated[
        str, typer.Option(help="preview (no diffusion), fast, balanced or quality.")
    ] = "balanced",
    seed: Annotated[int, typer.Option(help="Same seed, same video: 0 to 4294967295.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps a frame, 1 to 50; default: the preset's.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second, 10 to 60.")] = 25.0,
    face_index: Annotated[int, typer.Option(help="Which face speaks; 0 = the largest.")] = 0,
    check_face: _CheckFace = True,
    lip_strength: Annotated[
        float, typer.Option(help="Scale of the lip motion, 0 to 2; 1 = as predicted.")
    ] = 1.0,
    motion: _Motion = None,
    blink: _Blink = None,
    loop: _Loop = None,
    audio_offset_ms: _AudioOffsetMs = None,
    label: _Label = None,
    label_language: _LabelLanguage = None,
    consent: _Consent = False,
    max_side: Annotated[
        int, typer.Option(min=64, max=2160, help="Longest side of the video in pixels.")
    ] = 1920,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N; default: TALKFACE_DEVICE.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Checkpoint folder; default: ours."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary with timings as JSON on stdout.")
    ] = False,
) -> None:
    """Turn a portrait or a video, and a voice, into an MP4, without a server."""
    report = _Report(as_json=as_json)
    uploads = Uploads(audio, tuple(image or ()), video, driving_video)
    # What is not given is not told: whether it goes with the files depends on that.
    given = {
        "motion": motion,
        "blink": blink,
        "loop": loop,
        "seconds": seconds,
        "audio_offset_ms": audio_offset_ms,
        "label": label,
        "label_language": label_language,
    }
    options = _options(
        report,
        preset=preset,
        seed=seed,
        num_inference_steps=steps,
        fps=fps,
        face_index=face_index,
        check_face=check_face,
        lip_strength=lip_strength,
        **{name: value for name, value in given.items() if value is not None},
    )
    limits = IntakeLimits(max_side=max_side, max_video_bytes=_MAX_VIDEO_BYTES)
    settings = _settings(device, weights)
    quiet_libraries()
    try:
        with _Bar() as bar:
            summary = _generate(uploads, output, options, limits, settings, bar, consent)
    except IntakeError as error:
        report.fail(error.code, error.detail, error.params)
    except KeyboardInterrupt:
        typer.echo("talkface: interrupted", err=True)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except Exception as error:
        # The table is the worker's, the sentence is the exception's own: here the caller is the
        # operator. What the table does not know is a fault of ours and keeps its traceback.
        code = _known_code(error)
        if code is None:
            raise
        report.fail(code, str(error) or type(error).__name__)
    report.succeed(output, summary)


def _generate(
    uploads: Uploads,
    output: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    settings: WorkerSettings,
    bar: _Bar,
    consent: bool,
) -> dict[str, Any]:
    from worker.runtime import RenderRequest, load_renderer

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
        job_input = take_in(uploads, folder, options, limits)
        if consent:
            job_input = job_input.model_copy(update={"consent": "stated"})
        accepted = time.perf_counter()

        bar.title("loading the model")
        renderer = load_renderer(settings)
        loaded = time.perf_counter()

        drawn = folder / "output.mp4"
        labelling = Labelling(settings.label, settings.label_language)
        request = RenderRequest.of(job_input, folder.joinpath, drawn, labelling)
        result = renderer.render(request, bar)
        job_input = with_notes(job_input, result.notes)
        credentials, rendered = None, time.perf_counter()
        if settings.content_credentials:
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


class _Bar:
    """Progress on standard error; nothing where that is no terminal. A `ProgressSink`."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None, counted="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def title(self, text: str) -> None:
        """Say what goes on."""
        if self._task is not None:
            self._progress.update(self._task, description=text)

    def stage(self, stage: Stage) -> None:
        """A stage begins."""
        self.title(STAGE_TITLES[stage])

    def frames(self, done: int, total: int) -> None:
        """`done` of `total` frames are written."""
        if self._task is not None:
            self._progress.update(
                self._task, completed=done, total=total, counted=f"{done}/{total} frames"
            )


class _Report:
    """How a run ends: for people on standard error, with --json for programs on standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def succeed(self, output: Path, summary: dict[str, Any]) -> None:
        if self._as_json:
            typer.echo(json.dumps(summary, indent=2))
            return
        timings = summary["timings_s"]
        typer.echo(
            f"{output}: {summary['seconds']:g} s, {summary['width']}x{summary['height']}, "
            f"{summary['num_frames']} frames in {timings['total']:.1f} s"
        )
        for note in summary["input"]["audio"]["notes"]:
            typer.echo(f"talkface: audio: {note}", err=True)

    def fail(
        self, code: ErrorCode, detail: str, params: dict[str, ParamValue] | None = None
    ) -> NoReturn:
        if self._as_json:
            error = {"code": code.value, "detail": detail, "params": params or {}}
            typer.echo(json.dumps({"error": error}, indent=2))
        typer.echo(f"talkface: {detail} [{code.value}]", err=True)
        raise typer.Exit(EXIT_STATUS[code])


def _settings(device: str | None, weights: Path | None) -> WorkerSettings:
    chosen: dict[str, Any] = {"device": device, "weights_dir": weights}
    return WorkerSettings(**{name: value for name, value in chosen.items() if value is not None})


def _options(report: _Report, **chosen: str | float | None) -> SamplingOptions:
    try:
        return SamplingOptions.model_validate(chosen)
    except ValidationError as error:
        report.fail(ErrorCode.INVALID_OPTIONS, _describe_options(error))


def _known_code(error: Exception) -> ErrorCode | None:
    from model.errors import ModelError

    # torch's own class has that name; torch may not even be imported here.
    is_out_of_memory = type(error).__name__ == "OutOfMemoryError"
    is_known = is_out_of_memory or isinstance(error, (ModelError, MemoryError, SigningError))
    return classify(error).code if is_known else None


def _describe_options(error: ValidationError) -> str:
    told = "; ".join(
        f"{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']} (got {issue['input']!r})"
        for issue in error.errors()
    )
    return f"An option is out of range: {told}."


def quiet_libraries() -> None:
    """Keep mediapipe's start-up chatter out of the progress bar; its errors still come through."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
