"""A film and a voice of other lengths, or a voice for parts of a film: one sound over the film's own clock.

    ranges 2-4, audio for the film:       own 0-2 │ voice 2-4 │ own 4-end      the pictures are the film's
    ranges 2-4, audio for the ranges:     own 0-2 │ voice 0-2 │ own 4-end      own frames but for 2-4
    voice shorter, `video_longer=keep`:   voice │ own to the end               and for the voice's time
    voice longer, `video_shorter=cut`:    voice, cut off where the film ends

What the mouth hears (speech.flac) and what people hear (sound.flac) stay in step to the sample. Whoever
draws needs to know only which seconds are dubbed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.intake.descriptions import describe
from worker.contract.intake.limited_child import ffmpeg_reading, keep_waiting, run_limited
from worker.contract.intake.limits import IntakeLimits
from worker.contract.intake.sniffing import sniff_file
from worker.contract.intake.sounds import (
    SOUND_RATE_HZ,
    SPEECH_RATE_HZ,
    AudioInfo,
    accept_audio,
    flac_stream,
)
from worker.contract.intake.uploads import WrongCombinationError
from worker.contract.intake.videos import VideoInfo
from worker.contract.messages import SamplingOptions
from worker.contract.option_types import Range

_FADE_S: Final = 0.008
"""At each join, so that nothing clicks."""
_HEAD_ERROR_S: Final = 0.5
"""A head may count a sound that goes on behind the pictures."""
_NO_SOUND: Final = "The video has no sound of its own: where it is not dubbed it is silent."


@dataclass(frozen=True)
class _Piece:
    """A stretch of the result.

    Args:
        length_s: How long it is.
        voice_s: Where it begins in the voice; None for the film's own sound.
        start_s: Where it begins in the film.
    """

    length_s: float
    voice_s: float | None
    start_s: float


def needs_film(options: SamplingOptions) -> bool:
    """Whether the sound of a dubbed film can only be made when the film's length is known."""
    return (
        options.ranges is not None
        or options.video_longer != "cut"
        or options.video_shorter == "cut"
    )


def keeps_film(options: SamplingOptions) -> bool:
    """Whether the result is at least as long as the film."""
    return options.ranges is not None or options.video_longer == "keep"


def check_ranges(ranges: Sequence[Range], film_s: float, *, is_told: bool = False) -> None:
    """Refuse ranges that the film does not have.

    Args:
        ranges: Seconds.
        film_s: Length of the film.
        is_told: It is only what the head says.

    Raises:
        WrongCombinationError: One of them ends behind the film's end.
    """
    spare_s = _HEAD_ERROR_S if is_told else 0.1
    for start, end in ranges:
        if end > film_s + spare_s:
            raise WrongCombinationError(
                "ranges",
                f"The range {start:g}-{end:g} ends behind the end of the video, which lasts {film_s:.2f} s. "
                "Send ranges that lie within it.",
            )


def fit(
    upload: Path,
    folder: Path,
    names: tuple[str, str],
    options: SamplingOptions,
    audio: AudioInfo,
    video: VideoInfo,
    limits: IntakeLimits,
    on_wait: Callable[[], None] = keep_waiting,
) -> tuple[AudioInfo, tuple[Range, ...] | None]:
    """Bring the sound of a film to the film's clock, as the options say.

    Args:
        upload: The film as it came.
        folder: Has the normalised voice, and gets what becomes of it.
        names: What the voice's two files are called there: speech, sound.
        options: The caller's choices.
        audio: The voice.
        video: The film.
        limits: What is tolerated.
        on_wait: Called while something is decoded; what it raises stops that.

    Returns:
        The sound, and the seconds that are dubbed; None for all.

    Raises:
        WrongCombinationError: Ranges, film and voice do not go together.
        IntakeError: undecodable_media, the film's own sound is broken.
    """
    film_s = video.num_frames / video.fps
    if options.ranges is not None:
        check_ranges(options.ranges, film_s)
        dubbed = tuple((start, min(end, video.seconds)) for start, end in options.ranges)
        pieces = _pieces_of_ranges(dubbed, options, audio.seconds, film_s)
    elif audio.seconds > film_s and options.video_shorter == "cut":
        dubbed, pieces = (), [_Piece(film_s, 0.0, 0.0)]
    elif audio.seconds < film_s - 1 / video.fps and options.video_longer == "keep":
        dubbed = ((0.0, audio.seconds),)
        pieces = _with_own_sound(dubbed, [0.0], film_s)
    else:
        return audio, None
    own, notes = None, audio.notes
    if any(piece.voice_s is None for piece in pieces):
        own = _own_sound(upload, folder, limits, on_wait)
        notes = notes if own is not None else (*notes, _NO_SOUND)
    speech, sound = (folder / name for name in names)
    if options.ranges is None or options.audio_for == "film":
        # The mouth's first and last sounds in a range are known better by what is around them.
        heard = [_Piece(film_s, 0.0, 0.0)]
    else:
        heard = pieces
    _compose(heard, speech, None, 1, SPEECH_RATE_HZ, limits, on_wait)
    channels = max(audio.channels, 1 if own is None else flac_stream(own).channels)
    _compose(pieces, sound, own, channels, SOUND_RATE_HZ, limits, on_wait)
    if own is not None:
        own.unlink()
    fitted = replace(
        audio, seconds=round(flac_stream(speech).seconds, 3), channels=channels, notes=notes
    )
    return fitted, dubbed or None


def _pieces_of_ranges(
    ranges: Sequence[Range], options: SamplingOptions, voice_s: float, film_s: float
) -> list[_Piece]:
    """The whole film, with the voice in its ranges.

    Raises:
        WrongCombinationError: There is no voice for one of them, or too much for all.
    """
    if options.audio_for == "film":
        for start, end in ranges:
            if start >= voice_s:
                raise WrongCombinationError(
                    "ranges",
                    f"The range {start:g}-{end:g} begins behind the end of the audio, which lasts {voice_s:.2f} s "
                    "and runs from the film's beginning. Send a longer one, or `audio_for=ranges` if it is "
                    "for the ranges alone.",
                )
        return _with_own_sound(ranges, [start for start, _ in ranges], film_s)
    total_s = sum(end - start for start, end in ranges)
    if voice_s > total_s + 0.05:
        raise WrongCombinationError(
            "ranges",
            f"The audio lasts {voice_s:.2f} s and the ranges {total_s:.2f} s together, and it is for them alone. "
            "Make them longer or cut it, or leave out `audio_for=ranges` if it runs from the film's "
            "beginning.",
        )
    starts_s, spoken_s = [], 0.0
    for start, end in ranges:
        starts_s.append(spoken_s)
        spoken_s += end - start
    return _with_own_sound(ranges, starts_s, film_s)


def _with_own_sound(
    ranges: Sequence[Range], voice_starts_s: Sequence[float], film_s: float
) -> list[_Piece]:
    pieces, at_s = [], 0.0
    for (start, end), voice_s in zip(ranges, voice_starts_s, strict=True):
        pieces.append(_Piece(start - at_s, None, at_s))
        pieces.append(_Piece(end - start, voice_s, start))
        at_s = end
    pieces.append(_Piece(film_s - at_s, None, at_s))
    return [piece for piece in pieces if piece.length_s > 1e-4]


def _own_sound(
    upload: Path, folder: Path, limits: IntakeLimits, on_wait: Callable[[], None]
) -> Path | None:
    """The film's own sound, beginning with its first picture; None where it has none."""
    described = describe(upload, sniff_file(upload, "video", "video"), limits, "video")
    if not described.sounds:
        return None
    own, aside = folder / "own.flac", folder / "own-speech.flac"
    loose = replace(limits, max_audio_bytes=sys.maxsize, max_audio_s=limits.max_video_s + 60)
    try:
        accept_audio(upload, aside, own, loose, on_wait)
    except IntakeError as error:
        own.unlink(missing_ok=True)
        if error.code is ErrorCode.AUDIO_TOO_SHORT:
            return None
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            "The video's own sound, which is kept where it is not dubbed, cannot be decoded. Save the "
            "video again, or without a sound track, and resend it.",
            error.params,
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return own


def _compose(
    pieces: Sequence[_Piece],
    voice: Path,
    own: Path | None,
    channels: int,
    rate_hz: int,
    limits: IntakeLimits,
    on_wait: Callable[[], None],
) -> None:
    """Put the pieces one behind the other, in the place of the voice's file.

    Args:
        pieces: From the film's beginning to its end.
        voice: FLAC at `rate_hz`.
        own: FLAC at `rate_hz`; None for silence.
        channels: 1 or 2, of the result.
        rate_hz: Of all files.
        limits: What is tolerated.
        on_wait: Called meanwhile.
    """
    made = voice.with_name(f"fitted-{voice.name}")
    sources = [voice] if own is None else [voice, own]
    wide = [_widened(number, path, channels) for number, path in enumerate(sources)]
    used: list[list[str]] = [[] for _ in sources]
    graph: list[str] = []
    edges = [round(piece.start_s * rate_hz) for piece in pieces]
    # Not a sample more than the film has: it would need another frame.
    edges.append(int((pieces[-1].start_s + pieces[-1].length_s) * rate_hz + 1e-6))
    for number, piece in enumerate(pieces):
        count = edges[number + 1] - edges[number]
        fades = "" if number == 0 else f",afade=t=in:d={_FADE_S}"
        if number + 1 < len(pieces):
            fades += f",afade=t=out:st={max(0.0, count / rate_hz - _FADE_S):.6f}:d={_FADE_S}"
        if piece.voice_s is None and own is None:
            layout = "mono" if channels == 1 else "stereo"
            graph.append(
                f"anullsrc=r={rate_hz}:cl={layout},atrim=end_sample={count},"
                f"aformat=sample_fmts=s16[p{number}]"
            )
            continue
        source = 0 if piece.voice_s is not None else 1
        begin = round(piece.voice_s * rate_hz) if piece.voice_s is not None else edges[number]
        used[source].append(f"[s{number}]")
        graph.append(
            f"[s{number}]atrim=start_sample={begin}:end_sample={begin + count},asetpts=PTS-STARTPTS,"
            f"apad=whole_len={count}{fades},aformat=sample_fmts=s16[p{number}]"
        )
    for source, labels in enumerate(used):
        if labels:
            graph.insert(0, f"{wide[source]},asplit={len(labels)}{''.join(labels)}")
    parts = "".join(f"[p{number}]" for number in range(len(pieces)))
    graph.append(f"{parts}concat=n={len(pieces)}:v=0:a=1[out]")
    inputs = [part for path in sources for part in ("-f", "flac", "-i", f"file:{path}")]
    end = run_limited(
        [
            # The first input is opened by `ffmpeg_reading`.
            *ffmpeg_reading(voice, "flac"),
            *inputs[4:],
            *("-filter_complex", ";".join(graph), "-map", "[out]", "-map_metadata", "-1"),
            *("-c:a", "flac", "-compression_level", "0", "-f", "flac", f"file:{made}"),
        ],
        limits.child(max_file_bytes=int(limits.max_video_s + 62) * rate_hz * 4 + 2**20),
        what="audio",
        reads=sources,
        writes=made.parent,
        on_wait=on_wait,
    )
    if end.status != 0 or not made.is_file():
        raise IntakeError(
            ErrorCode.UNDECODABLE_MEDIA,
            "The audio and the video's own sound cannot be joined. Save both as stereo at 48 kHz and "
            "resend them.",
            {"decoder": end.words},
        )
    made.replace(voice)


def _widened(number: int, path: Path, channels: int) -> str:
    """The filter that gives an input the result's channels, each as loud as before."""
    if flac_stream(path).channels < channels:
        return f"[{number}:a]pan=stereo|c0=c0|c1=c0"
    return f"[{number}:a]anull"
