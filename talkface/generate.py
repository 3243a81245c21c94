"""`talkface generate`: one video, in this process, without a server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from talkface.batch import BatchError, check_output
from talkface.exits import Exit, fail
from talkface.generate_batch import generate_batch
from talkface.studio import Studio, sampling_options
from talkface.terminal import Bar, Report, file_or_stdin
from talkface.watching import STDOUT, player, stdout_watcher
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.formats import types_of
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.uploads import Uploads
from worker.contract.start import StartError
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    pass

_MAX_VIDEO_BYTES: Final = 4 * 2**30
"""The file is the operator's own, so only the length of a video is a matter here."""

FILE: Final = {"exists": True, "dir_okay": False}
"""An option that names a file to read."""

# The options that say what is animated, by what.
_Batch = Annotated[
    Path | None,
    typer.Argument(
        exists=True,
        help="Several videos by one warm model: a folder of pictures and sounds that go together by "
        "name, or a CSV or JSONL with the columns image, audio, video, driving_video, output and "
        "options. `--output` is a folder then.",
    ),
]
_Audio = Annotated[
    Path | None,
    typer.Option(help=f"Speech: {types_of('audio')}. -: standard input.", callback=file_or_stdin),
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

_Fps = Annotated[
    float | None,
    typer.Option(help="Frames per second, 10 to 60; default: the video's own, 25 for a portrait."),
]
_Ranges = Annotated[
    str | None,
    typer.Option(help="The seconds of a video that are dubbed, such as 1.5-4,10-12; default: all."),
]
_AudioFor = Annotated[
    str | None,
    typer.Option(
        help="With --ranges: film (speech runs from the film's beginning; default), or ranges (it is "
        "for them alone)."
    ),
]
_VideoShorter = Annotated[
    str | None,
    typer.Option(help="A video shorter than the speech: bounce (default), repeat, freeze or cut."),
]
_VideoLonger = Annotated[
    str | None,
    typer.Option(help="A video longer than the speech: cut (default), or keep its rest as it is."),
]


def generate(
    output: Annotated[
        Path,
        typer.Option(
            help="The MP4 to write; an existing file is replaced. -: standard output, while it is drawn: "
            "fragmented, with its label and without a signature."
        ),
    ],
    batch: _Batch = None,
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
    fps: _Fps = None,
    face_index: Annotated[int, typer.Option(help="Which face speaks; 0 = the largest.")] = 0,
    check_face: _CheckFace = True,
    lip_strength: Annotated[
        float, typer.Option(help="Scale of the lip motion, 0 to 2; 1 = as predicted.")
    ] = 1.0,
    motion: _Motion = None,
    blink: _Blink = None,
    loop: _Loop = None,
    audio_offset_ms: _AudioOffsetMs = None,
    ranges: _Ranges = None,
    audio_for: _AudioFor = None,
    video_shorter: _VideoShorter = None,
    video_longer: _VideoLonger = None,
    frame: Annotated[
        str,
        typer.Option(help="What is shown: source (all), or square, portrait, landscape."),
    ] = "source",
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
    play: Annotated[
        bool, typer.Option("--play", help="Show it in mpv or ffplay while it is drawn.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary with timings as JSON on stdout.")
    ] = False,
) -> None:
    """Turn a portrait or a video, and a voice, into an MP4, without a server."""
    report = Report(as_json=as_json)
    # What is not given is not told: whether it goes with the files depends on that.
    given = {
        "motion": motion,
        "blink": blink,
        "loop": loop,
        "seconds": seconds,
        "audio_offset_ms": audio_offset_ms,
        "fps": fps,
        "ranges": ranges,
        "audio_for": audio_for,
        "video_shorter": video_shorter,
        "video_longer": video_longer,
        "label": label,
        "label_language": label_language,
    }
    chosen: dict[str, Any] = {
        "preset": preset,
        "seed": seed,
        "num_inference_steps": steps,
        "frame": frame,
        "face_index": face_index,
        "check_face": check_face,
        "lip_strength": lip_strength,
        **{name: value for name, value in given.items() if value is not None},
    }
    limits = IntakeLimits(max_side=max_side, max_video_bytes=_MAX_VIDEO_BYTES)
    settings = _settings(device, weights)
    if output == STDOUT:
        # Only a file that is complete can be signed.
        settings = settings.model_copy(update={"content_credentials": False})
    try:
        studio = Studio(limits, settings, states_consent=consent)
    except StartError as error:
        fail(Exit.START_FAILED, str(error))
    quiet_libraries()
    if batch is not None:
        if audio or image or video or driving_video:
            report.fail(ErrorCode.INVALID_OPTIONS, "A batch names its own files; leave yours out.")
        if play or output == STDOUT:
            report.fail(ErrorCode.INVALID_OPTIONS, "A batch cannot be watched while it is drawn.")
        generate_batch(batch, output, chosen, studio, report)
        return
    with ExitStack() as stack:
        stack.enter_context(report.failures())
        sound = stack.enter_context(read_from_stdin(audio))
        _check_output(output, play=play, as_json=as_json)
        uploads = Uploads(sound, tuple(image or ()), video, driving_video)
        options, target, watcher = sampling_options(chosen), output, None
        if output == STDOUT:
            watcher, target = stack.enter_context(stdout_watcher())
        elif play:
            watcher = stack.enter_context(player())
        with Bar() as bar:
            summary = studio.make(uploads, target, options, bar, watcher)
        report.succeed(output, summary, err=output == STDOUT)


def _settings(device: str | None, weights: Path | None) -> WorkerSettings:
    chosen: dict[str, Any] = {"device": device, "weights_dir": weights}
    return WorkerSettings(**{name: value for name, value in chosen.items() if value is not None})


def _check_output(output: Path, *, play: bool, as_json: bool) -> None:
    if output == STDOUT:
        if play or as_json:
            word = "--play" if play else "--json"
            raise IntakeError(
                ErrorCode.INVALID_OPTIONS,
                f"--output - is a film for somebody else; leave {word} out.",
            )
        return
    try:
        check_output(output)
    except BatchError as error:
        raise IntakeError(ErrorCode.INVALID_OPTIONS, str(error)) from None
    if output.is_dir():
        raise IntakeError(ErrorCode.INVALID_OPTIONS, f"{output} is a folder. Name a file in it.")


@contextmanager
def read_from_stdin(path: Path | None) -> Iterator[Path | None]:
    """A file for what `-` stands for; any other path as it is."""
    if path != Path("-"):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="talkface-stdin-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def quiet_libraries() -> None:
    """Keep mediapipe's start-up chatter out of the progress bar; its errors still come through."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
