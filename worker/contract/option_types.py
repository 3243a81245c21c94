"""The options of a video that have a form of their own: how they are written, and what is checked of one alone."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

# As a set of one word: generated clients do not get along with a constant beside a number.
Auto = Annotated[Literal["auto"], WithJsonSchema({"type": "string", "enum": ["auto"]})]
MotionName = Literal["still", "subtle", "natural"]
FrameName = Literal["source", "square", "portrait", "landscape"]
AudioFor = Literal["film", "ranges"]
VideoShorter = Literal["bounce", "repeat", "freeze", "cut"]
VideoLonger = Literal["cut", "keep"]
Range = tuple[float, float]

MOST_MOTION: Final = 1.5
"""Greatest strength of a head's motion; 1 is natural."""
MOST_OFFSET_MS: Final = 10_000
"""Farthest that a sound can be moved against the pictures, either way."""
MOST_RANGES: Final = 100
LEAST_RANGE_S: Final = 0.2
_NUMBER: Final = r"\d+(?:\.\d+)?"
_RANGE: Final = rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*"
_RANGES: Final = rf"^\s*{_NUMBER}\s*-\s*{_NUMBER}\s*(?:,\s*{_NUMBER}\s*-\s*{_NUMBER}\s*)*$"


def write_ranges(ranges: tuple[Range, ...]) -> str:
    """As a form has them: `1.5-4,10-12`."""
    return ",".join(f"{start:g}-{end:g}" for start, end in ranges)


def _motion(value: object) -> object:
    """A name as it is, or a number, which a form sends as text; so there is one message for both."""
    if value is None or value in get_args(MotionName):
        return value
    try:
        strength = float(str(value))
    except ValueError:
        strength = math.nan
    if not 0.0 <= strength <= MOST_MOTION:
        raise ValueError(
            f"expected still, subtle, natural or a number from 0 to {MOST_MOTION:g}; "
            "1 is as much as natural"
        )
    return strength


def _offset_ms(value: object) -> object:
    """`auto` as it is, or a whole number, which a form sends as text; so there is one message for both."""
    if value == "auto":
        return value
    try:
        offset_ms = float(str(value))
    except ValueError:
        offset_ms = math.nan
    if not (abs(offset_ms) <= MOST_OFFSET_MS and offset_ms.is_integer()):
        raise ValueError(
            f"expected auto or a whole number from -{MOST_OFFSET_MS} to {MOST_OFFSET_MS}"
        )
    return int(offset_ms)


def _ranges(value: object) -> object:
    """Pairs in their order, from the text of a form or as they are stored."""
    if value is None:
        return None
    pairs = sorted(_pairs(value))
    if not 1 <= len(pairs) <= MOST_RANGES:
        raise ValueError(f"expected 1 to {MOST_RANGES} ranges, got {len(pairs)}")
    for start, end in pairs:
        if end <= start:
            raise ValueError(
                f"the range {start:g}-{end:g} ends before it begins; expected START-END, such as "
                f"{end:g}-{start:g}"
            )
        if end - start < LEAST_RANGE_S - 1e-9:
            raise ValueError(
                f"the range {start:g}-{end:g} is too short; expected {LEAST_RANGE_S:g} s or more"
            )
    for (start, end), (next_start, next_end) in pairwise(pairs):
        if next_start < end:
            raise ValueError(
                f"the ranges {start:g}-{end:g} and {next_start:g}-{next_end:g} overlap; "
                "expected ranges of which each begins where the one before has ended, or later"
            )
    return tuple(pairs)


def _pairs(value: object) -> list[Range]:
    wanted = "expected START-END in seconds, several with commas between them, such as 1.5-4,10-12"
    pairs: list[Range] = []
    for part in value.split(",") if isinstance(value, str) else _listed(value, wanted):
        found = re.fullmatch(_RANGE, part) if isinstance(part, str) else None
        if found is not None:
            pairs.append((float(found[1]), float(found[2])))
        elif isinstance(part, list | tuple) and len(part) == 2:
            start, end = (float(one) for one in part)
            if not 0 <= start < math.inf or not 0 <= end < math.inf:
                raise ValueError(wanted)
            pairs.append((start, end))
        else:
            raise ValueError(f"{wanted}; got {str(part)[:40]!r}")
    return pairs


def _listed(value: object, wanted: str) -> list[object]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{wanted}; got {str(value)[:40]!r}")
    return list(value)


Fps = Annotated[
    float,
    Field(
        ge=10,
        le=60,
        description="Frames per second of the video. Left out: those of the `video` or "
        "`driving_video`, halved until they are at most 60; 25 for a photograph.",
        # what is true of a photograph alone is no default
        json_schema_extra=lambda schema: schema.pop("default", None),
    ),
]
Motion = Annotated[
    MotionName | Annotated[float, Field(ge=0.0, le=MOST_MOTION)] | None,
    BeforeValidator(_motion),
    Field(
        description="How much the head of a photograph moves: `still`, `subtle`, `natural`, or "
        "a strength, 1 = `natural`. Left out: `natural`, or as the `driving_video` does. Not "
        "with `video` or `driving_video`."
    ),
]
AudioOffset = Annotated[
    Auto | Annotated[int, Field(ge=-MOST_OFFSET_MS, le=MOST_OFFSET_MS)],
    BeforeValidator(_offset_ms),
    Field(
        description="Milliseconds by which the sound is moved: above 0 it is heard later, after "
        "silence; below 0 earlier, its beginning cut off. Not with `seconds`. `auto`, for a "
        "`video` whose face says these very words: as its lips ask for, up to 0.6 s either way."
    ),
]
Ranges = Annotated[
    Annotated[
        tuple[Range, ...],
        WithJsonSchema(
            {"type": "string", "pattern": _RANGES, "examples": ["1.5-4,10-12"]}, mode="validation"
        ),
    ]
    | None,
    BeforeValidator(_ranges),
    Field(
        description="The parts of a `video` that are dubbed: START-END in seconds, several with "
        "commas between them, such as `1.5-4,10-12`. The rest keeps its pictures and its sound. "
        "Left out: all of it."
    ),
]
ForRanges = Annotated[
    AudioFor,
    Field(
        description="With `ranges`, what the `audio` is: `film`, it runs from the film's beginning, "
        "and of it the ranges are heard; `ranges`, it is for them alone and is spoken in one after "
        "the other."
    ),
]
WhereShorter = Annotated[
    VideoShorter,
    Field(
        description="Where the `video` is shorter than the `audio`: it runs backwards and forwards "
        "again (`bounce`), begins again (`repeat`), stands still (`freeze`), or ends the sound "
        "(`cut`)."
    ),
]
WhereLonger = Annotated[
    VideoLonger,
    Field(
        description="Where the `video` is longer than the `audio`: it ends with it (`cut`), or its "
        "rest is kept with its own sound (`keep`). With `ranges` it is kept in any case."
    ),
]
Frame = Annotated[
    FrameName,
    Field(
        description="What is shown: the whole picture (`source`), or a window around head and "
        "shoulders, 1:1 (`square`), 9:16 (`portrait`) or 16:9 (`landscape`)."
    ),
]
