"""Values of options that are a word or a number: a form sends both as text, and each has one message."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, get_args

from pydantic import WithJsonSchema

# As a set of one word: generated clients do not get along with a constant beside a number.
Auto = Annotated[Literal["auto"], WithJsonSchema({"type": "string", "enum": ["auto"]})]
MotionName = Literal["still", "subtle", "natural"]

MOST_MOTION: Final = 1.5
"""Greatest strength of a head's motion; 1 is natural."""
MOST_OFFSET_MS: Final = 10_000
"""Farthest that a sound can be moved against the pictures, either way."""


def read_motion(value: object) -> object:
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


def read_offset_ms(value: object) -> object:
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
