"""The visible label: a few words in one corner that say that AI made the video.

White letters on a dark plate that lets a quarter of the picture through: even over white the plate is
dark enough for a contrast of 9:1 (WCAG 2.2 asks for 4.5:1 of text of this size), so it is legible on
any picture.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.errors import MissingDependencyError

INTRO_S: Final = 3.0
"""How long a label of the kind `intro` is seen, in seconds."""
PLATE_OPACITY: Final = 0.74
# Shares of the shorter side. Captions and players' controls are at the bottom, so it is at the top.
_TEXT_SHARE: Final = 0.027
_MARGIN_SHARE: Final = 0.02
_LEAST_TEXT_PX: Final = 11
_PLATE_RGB: Final = 16
_TEXT_RGB: Final = 255
# DejaVu has Latin, Greek and Cyrillic, and matplotlib's wheel, which the detector needs, carries it.
_FONT: Final = Path("mpl-data", "fonts", "ttf", "DejaVuSans-Bold.ttf")

TEXTS: Final[dict[str, tuple[str, str, str]]] = {
    # language: drawn from a picture, a film that was changed, and what fits where little does
    "en": ("AI-generated", "Altered with AI", "AI"),
    "cs": ("Vytvořeno AI", "Upraveno AI", "AI"),
    "da": ("AI-genereret", "Ændret med AI", "AI"),
    "de": ("KI-generiert", "Mit KI verändert", "KI"),
    "el": ("Δημιουργήθηκε με ΤΝ", "Τροποποιήθηκε με ΤΝ", "ΤΝ"),
    "es": ("Generado con IA", "Modificado con IA", "IA"),
    "fr": ("Généré par IA", "Modifié par IA", "IA"),
    "it": ("Generato con IA", "Modificato con IA", "IA"),
    "nl": ("AI-gegenereerd", "Bewerkt met AI", "AI"),
    "pl": ("Wygenerowane przez AI", "Zmienione przez AI", "AI"),
    "pt": ("Gerado por IA", "Alterado por IA", "IA"),
    "sv": ("AI-genererad", "Ändrad med AI", "AI"),
}


class Label:
    """The label of one video; a `FrameMark`.

    Args:
        width: Of the video in pixels.
        height: Of the video in pixels.
        language: One of `TEXTS`.
        is_edited: It is a film that was changed, not a picture that was animated.
        num_frames: On how many frames from the first; None = on all.

    Raises:
        ValueError: There is no text in this language.
        MissingDependencyError: The font is not there.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        language: str = "en",
        is_edited: bool = False,
        num_frames: int | None = None,
    ) -> None:
        if language not in TEXTS:
            raise ValueError(
                f"the label has no text in {language!r}; choose one of {', '.join(TEXTS)}"
            )
        self._width, self._height = width, height
        generated, edited, short = TEXTS[language]
        self._texts = (edited if is_edited else generated, short)
        self._num_frames = num_frames

    def apply(self, frame: NDArray[np.uint8], number: int) -> None:
        """See `FrameMark.apply`; the frame has the size of the video."""
        if self._num_frames is not None and number >= self._num_frames:
            return
        y0, x0, keep, add = self._plate
        region = frame[y0 : y0 + keep.shape[0], x0 : x0 + keep.shape[1]]
        # picture * (1 - opacity) + plate * opacity, in integers: 256 = all of the picture
        blended = np.multiply(region, keep, dtype=np.uint16)
        blended >>= 8
        blended += add
        region[:] = blended

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Where the label is, in pixels; the second corner lies outside."""
        y0, x0, keep, _ = self._plate
        return x0, y0, x0 + keep.shape[1], y0 + keep.shape[0]

    @cached_property
    def _plate(self) -> tuple[int, int, NDArray[np.uint16], NDArray[np.uint16]]:
        """Row, column, how much of each pixel of the picture stays, and what is added to it."""
        margin = max(2, round(_MARGIN_SHARE * min(self._width, self._height)))
        coverage = self._letters(self._width - 2 * margin)
        pad_x, pad_y = round(0.45 * coverage.shape[0]), round(0.3 * coverage.shape[0])
        # 1. how much of a letter covers each pixel, 0 to 1, with room around
        letters = np.pad(coverage, ((pad_y, pad_y), (pad_x, pad_x)))
        # 2. the plate with round corners, then the letters over it
        opacity = PLATE_OPACITY * _rounded(letters.shape[0], letters.shape[1], pad_y)
        alpha = opacity + letters * (1.0 - opacity)
        colour = _PLATE_RGB * opacity * (1.0 - letters) + _TEXT_RGB * letters
        keep = np.round((1.0 - alpha) * 256).astype(np.uint16)
        add = np.floor(colour).astype(np.uint16)
        # A picture smaller than its plate gets a part of it.
        rows, columns = self._height - margin, self._width - margin
        shown = (slice(None, rows), slice(None, columns))
        return margin, margin, _for_rgb(keep[shown]), _for_rgb(add[shown])

    def _letters(self, room_px: int) -> NDArray[np.float64]:
        """The longest text that fits, drawn: coverage `(h, w)`, 0 to 1."""
        wanted_px = max(_LEAST_TEXT_PX, round(_TEXT_SHARE * min(self._width, self._height)))
        for text in self._texts:
            drawn = _draw(text, wanted_px)
            if drawn.shape[1] + drawn.shape[0] <= room_px:
                break
        return drawn


def _draw(text: str, size_px: int) -> NDArray[np.float64]:
    font = ImageFont.truetype(str(_font_path()), size_px)
    # From the top of the tallest letter to below the baseline, whatever letters the text has.
    ascent, descent = font.getmetrics()
    width = round(font.getlength(text)) + 1
    canvas = Image.new("L", (width, ascent + descent))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=font)
    return np.asarray(canvas, dtype=np.float64) / 255.0


def _for_rgb(plane: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """One plane for each colour, written out: broadcasting in the innermost loop is slow."""
    return np.repeat(plane[..., None], 3, axis=2)


def _rounded(height: int, width: int, radius: int) -> NDArray[np.float64]:
    """1 inside a rectangle with round corners, 0 outside, smooth between."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    # distance to the rectangle that is smaller by the radius on each side
    dy = np.maximum(np.maximum(radius - y, y - (height - radius)), 0.0)
    dx = np.maximum(np.maximum(radius - x, x - (width - radius)), 0.0)
    inside: NDArray[np.float64] = np.clip(radius + 0.5 - np.hypot(dx, dy), 0.0, 1.0)
    return inside


def _font_path() -> Path:
    # The package is found, not imported: it would read its settings and build a font cache.
    spec = importlib.util.find_spec("matplotlib")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / _FONT
    if path is None or not path.is_file():
        raise MissingDependencyError(
            "the label's font is missing: it comes with matplotlib; install talkface[worker], or "
            "choose the label `off`"
        )
    return path
