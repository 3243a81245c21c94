"""The texts of the pages: one file a language, chosen by the address or by what the browser asks."""

from __future__ import annotations

import json
from functools import cache
from typing import Final

from service.pages.assets import TEXTS

DEFAULT: Final = "en"


@cache
def texts_of(language: str) -> dict[str, str]:
    """All texts of a language, by key."""
    texts: dict[str, str] = json.loads((TEXTS / f"{language}.json").read_text("utf-8"))
    return texts


@cache
def languages() -> dict[str, str]:
    """Code -> the language's own name, English first."""
    codes = sorted(
        (path.stem for path in TEXTS.iterdir()), key=lambda code: (code != DEFAULT, code)
    )
    return {code: texts_of(code)["language"] for code in codes}


def choose_language(wanted: str | None, accept_language: str) -> str:
    """The language of an answer.

    Args:
        wanted: What the address names, if anything.
        accept_language: The header, such as `de-CH, de;q=0.9, en;q=0.8`.
    """
    known = languages()
    if wanted in known:
        return str(wanted)
    weighted: list[tuple[float, str]] = []
    for entry in accept_language.split(","):
        tag, _, parameter = entry.strip().partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1.0)
        except ValueError:
            weight = 0.0
        weighted.append((weight, tag.partition("-")[0].lower()))
    # `sorted` keeps the order of what weighs the same.
    for weight, code in sorted(weighted, key=lambda pair: -pair[0]):
        if weight > 0 and code in known:
            return code
    return DEFAULT
