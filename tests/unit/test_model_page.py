"""docs/model.md points at lines of the code; this holds it to that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)#L(\d+)\)")
LINKS = LINK.findall((ROOT / "docs" / "model.md").read_text())


def test_the_page_has_links() -> None:
    assert len(LINKS) >= 20


@pytest.mark.parametrize(("symbol", "path", "line"), LINKS, ids=[link[0] for link in LINKS])
def test_a_link_points_at_its_definition(symbol: str, path: str, line: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    definition = re.compile(rf"\s*(def|class) {symbol}\b|{symbol}\b")
    defined = [number for number, text in enumerate(lines, 1) if definition.match(text)]
    assert defined, f"{path} defines no {symbol}"
    assert int(line) == defined[0], f"docs/model.md: write {path}#L{defined[0]} for {symbol}"
