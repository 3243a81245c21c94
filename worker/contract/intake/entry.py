"""Uploads become the input of a job.

    take_in           decodes all files                          talkface generate; photographs
    take_in_later     the same, but of a video only looks        the service, before the 202
    decode_pending    decodes what `take_in_later` left          the validator or the renderer

Decoding a video takes minutes, so the service stores it as it came and somebody else decodes it when
the job has been accepted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from worker.contract.errors import of_field
from worker.contract.intake.file_names import (
    FILES_OF,
    ORIGINAL,
    PORTRAIT,
    SOUND,
    SPEECH,
    reference_name,
    upload_name,
)
from worker.contract.intake.fitting import check_ranges, fit, keeps_film, needs_film
from worker.contract.intake.limited_child import keep_waiting
from worker.contract.intake.limits import IntakeLimits, audio_too_long
from worker.contract.intake.pictures import accept_image
from worker.contract.intake.probes import probe_audio, probe_video
from worker.contract.intake.rates import exact_rate
from worker.contract.intake.sounds import SOUND_RATE_HZ, AudioInfo, accept_audio, make_silence
from worker.contract.intake.uploads import Uploads, check_choices, check_combination
from worker.contract.intake.videos import VideoInfo, accept_video
from worker.contract.messages import (
    AudioInput,
    ImageInput,
    JobInput,
    Pending,
    SamplingOptions,
    VideoInput,
)


def take_in(
    uploads: Uploads,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Bring uploads through the intake: the cheap ones first, so that bad ones are told early.

    Args:
        uploads: Files as they came.
        folder: Where the normalised files go, by the names of `file_names`.
        options: The caller's choices; `fps`, if it was sent, is the rate that videos are brought to.
        limits: What is tolerated.
        on_wait: Called while a file is decoded; what it raises stops that.

    Raises:
        IntakeError: A file cannot be used, or they do not go together.
    """
    _check_choices(uploads, options)
    portrait, references = _take_images(uploads, folder, limits, on_wait)
    audio = _take_voice(uploads, folder, options, limits, on_wait)
    fps, dubbed = _sent_rate(options), None
    video = driving = None
    if uploads.video is not None:
        video = _take_video(uploads.video, "video", folder, fps, limits, on_wait)
        audio, dubbed = fit(
            uploads.video, folder, (SPEECH, SOUND), options, audio, video, limits, on_wait
        )
    if uploads.driving_video is not None:
        driving = _take_video(uploads.driving_video, "driving_video", folder, fps, limits, on_wait)
    return JobInput(
        audio=AudioInput(**asdict(audio)),
        image=portrait,
        video=None if video is None else VideoInput(**asdict(video), dubbed=dubbed),
        driving_video=None if driving is None else VideoInput(**asdict(driving)),
        references=references,
        options=_at_rate(options, video or driving),
    )


def take_in_later(
    uploads: Uploads,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Like `take_in`, but a video, and the voice beside it, are only looked at.

    They are in the folder as they came, by `upload_name`, and `pending` says which; `decode_pending`
    does the rest. Where there is no video nothing is left to do.

    Raises:
        IntakeError: A file cannot be used, or they do not go together.
    """
    # 1. without a video everything is decoded at once
    if uploads.video is None and uploads.driving_video is None:
        return take_in(uploads, folder, options, limits, on_wait)
    _check_choices(uploads, options)

    # 2. pictures are decoded at once in any case
    portrait, references = _take_images(uploads, folder, limits, on_wait)

    # 3. a film that is decoded already needs nothing more, unless the sound depends on it
    if (video := _ready_video(uploads, options)) is not None:
        voice = _take_voice(uploads, folder, options, limits, on_wait)
        return JobInput(
            audio=AudioInput(**asdict(voice)),
            video=video,
            references=references,
            options=_at_rate(options, video),
        )

    # 4. of other videos only the heads are read
    pending: list[Literal["audio", "video", "driving_video"]] = []
    videos: dict[str, VideoInput] = {}
    film_s = 0.0
    for name, path in (("video", uploads.video), ("driving_video", uploads.driving_video)):
        if path is not None:
            with of_field(name):
                probe = probe_video(path, limits, name.replace("_", " "))
            videos[name] = VideoInput(
                fps=_sent_rate(options) or probe.fps,
                format=probe.demuxer,
                bytes=probe.num_bytes,
                sha256=uploads.sha256(path),
            )
            if probe.seconds is not None:
                film_s = min(probe.seconds, limits.max_video_s)
                check_ranges(options.ranges or (), film_s, is_told=True)
            pending.append("video" if name == "video" else "driving_video")
            path.rename(folder / upload_name(name))

    # 5. of the voice beside a video, too, where that tells its length: quotas and deadlines count it
    with of_field("audio"):
        found = None if uploads.audio is None else probe_audio(uploads.audio, limits)
    is_told = found is not None and found.seconds is not None
    if uploads.audio is None or not is_told:
        audio = AudioInput(**asdict(_take_voice(uploads, folder, options, limits, on_wait)))
    else:
        assert found is not None and found.seconds is not None
        audio = AudioInput(
            seconds=round(found.seconds, 3),
            sample_rate_hz=SOUND_RATE_HZ,
            channels=found.channels,
            format=found.demuxer,
            bytes=found.num_bytes,
            sha256=uploads.sha256(uploads.audio),
        )
    if uploads.audio is not None and (is_told or needs_film(options)):
        pending.insert(0, "audio")
        uploads.audio.rename(folder / upload_name("audio"))
    if keeps_film(options):
        audio = audio.model_copy(update={"seconds": max(audio.seconds, round(film_s, 3))})
    return JobInput(
        audio=audio,
        image=portrait,
        video=videos.get("video"),
        driving_video=videos.get("driving_video"),
        references=references,
        options=_at_rate(options, next(iter(videos.values()))),
        pending=Pending(
            files=tuple(pending),
            max_audio_s=limits.max_audio_s,
            max_video_s=limits.max_video_s,
            max_side=limits.max_side,
            background=limits.background,
            keeps_rate=_sent_rate(options) is None,
        ),
    )


def decode_pending(
    job_input: JobInput,
    path_of: Callable[[str], Path],
    folder: Path,
    on_wait: Callable[[], None] = keep_waiting,
) -> JobInput:
    """Decode what `take_in_later` left.

    Args:
        job_input: What was accepted.
        path_of: Where the stored file of a name lies.
        folder: Where the normalised files go.
        on_wait: Called while a file is decoded; what it raises stops that.

    Returns:
        The input with nothing pending.

    Raises:
        IntakeError: A file cannot be used after all.
    """
    pending = job_input.pending
    if pending is None:
        return job_input
    # The number of bytes was judged when the request came.
    limits = IntakeLimits(
        max_audio_bytes=sys.maxsize,
        max_video_bytes=sys.maxsize,
        max_audio_s=pending.max_audio_s,
        max_video_s=pending.max_video_s,
        max_side=pending.max_side,
        background=pending.background,
    )
    options = job_input.options
    fps = None if pending.keeps_rate else options.fps
    changes: dict[str, AudioInput | VideoInput | SamplingOptions | None] = {"pending": None}
    audio: AudioInfo | None = None
    if "audio" in pending.files:
        audio = _take_audio(path_of(upload_name("audio")), folder, options, limits, on_wait)
        changes["audio"] = AudioInput(**asdict(audio))
    for name in pending.files:
        if name == "audio":
            continue
        source = path_of(upload_name(name))
        video, dubbed = _take_video(source, name, folder, fps, limits, on_wait), None
        if name == "video" and audio is not None:
            fitted, dubbed = fit(
                source, folder, (SPEECH, SOUND), options, audio, video, limits, on_wait
            )
            changes["audio"] = AudioInput(**asdict(fitted))
        changes[name] = VideoInput(**asdict(video), dubbed=dubbed)
        changes["options"] = _at_rate(options, video)
    return job_input.model_copy(update=changes)


def _take_images(
    uploads: Uploads, folder: Path, limits: IntakeLimits, on_wait: Callable[[], None]
) -> tuple[ImageInput | None, tuple[ImageInput, ...]]:
    """The portrait, if one is animated, and the further pictures."""
    check_combination(
        num_images=len(uploads.images),
        has_video=uploads.video is not None,
        has_driving_video=uploads.driving_video is not None,
    )

    def take(path: Path, name: str, original: Path | None = None) -> ImageInput:
        with of_field("image"):
            info = accept_image(path, folder / name, limits, on_wait, original)
        return ImageInput(**asdict(info))

    more = uploads.images
    portrait = uploads.ready.image
    if portrait is not None:
        more = more[1:]
    elif uploads.video is None:
        portrait, more = take(more[0], PORTRAIT, folder / ORIGINAL), more[1:]
    return portrait, tuple(take(path, reference_name(n)) for n, path in enumerate(more))


def _check_choices(uploads: Uploads, options: SamplingOptions) -> None:
    check_choices(
        options,
        has_audio=uploads.audio is not None,
        has_video=uploads.video is not None,
        has_driving_video=uploads.driving_video is not None,
    )


def _take_voice(
    uploads: Uploads,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None],
) -> AudioInfo:
    """The voice as it was kept, or decoded as it came."""
    ready = uploads.ready.audio
    if ready is not None and options.audio_offset_ms in (0, "auto"):
        if ready.seconds > limits.max_audio_s:
            raise audio_too_long(limits)
        return AudioInfo(**ready.model_dump())
    return _take_audio(uploads.audio, folder, options, limits, on_wait)


def _ready_video(uploads: Uploads, options: SamplingOptions) -> VideoInput | None:
    """The film as it was kept, where all that is asked for can be done with it."""
    video, fps = uploads.ready.video, _sent_rate(options)
    if video is None or needs_film(options) or fps not in (None, video.fps):
        return None
    return video


def _take_audio(
    source: Path | None,
    folder: Path,
    options: SamplingOptions,
    limits: IntakeLimits,
    on_wait: Callable[[], None],
) -> AudioInfo:
    """The voice, or the silence that was asked for instead."""
    speech, sound = folder / SPEECH, folder / SOUND
    if source is None:
        assert options.seconds is not None  # `check_choices` saw to it
        with of_field("seconds"):
            return make_silence(options.seconds, speech, sound, limits, on_wait)
    # Where the lips have to tell it the renderer moves the sound.
    offset_ms = 0 if options.audio_offset_ms == "auto" else options.audio_offset_ms
    with of_field("audio"):
        return accept_audio(source, speech, sound, limits, on_wait, offset_ms=offset_ms)


def _take_video(
    source: Path,
    field: Literal["video", "driving_video"],
    folder: Path,
    fps: float | None,
    limits: IntakeLimits,
    on_wait: Callable[[], None],
) -> VideoInfo:
    (name,) = FILES_OF[field]
    what = field.replace("_", " ")
    with of_field(field):
        return accept_video(source, folder / name, limits, fps, what=what, on_wait=on_wait)


def _sent_rate(options: SamplingOptions) -> float | None:
    """The rate that the caller asked for, exactly; None where nothing was said."""
    return float(exact_rate(options.fps)) if "fps" in options.model_fields_set else None


def _at_rate(options: SamplingOptions, video: VideoInfo | VideoInput | None) -> SamplingOptions:
    """The options with the result's rate: what is stored has a number, whoever reads it."""
    fps = float(exact_rate(options.fps)) if video is None else video.fps
    return options.model_copy(update={"fps": fps})
