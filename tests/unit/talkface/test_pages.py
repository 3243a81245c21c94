"""Tutorials, troubleshooting and comparison: codes, commands, links and sources hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from service.problems import STATUS
from talkface.__main__ import app
from talkface.exits import EXIT_STATUS
from worker.contract.errors import ErrorCode

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = ("tutorials.md", "troubleshooting.md", "comparison.md")


def test_the_troubleshooting_page_has_every_code_once_with_its_statuses() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| \S.* \| \S.* \|$", page, re.MULTILINE)

    told = sorted((code, int(status), int(exit_status)) for code, status, exit_status in rows)
    assert told == sorted((code, STATUS[code].value, EXIT_STATUS[code]) for code in ErrorCode)


def _commands() -> Iterator[list[str]]:
    """The commands of the tutorials' shell blocks, without variables before them."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "tutorials.md").read_text(), re.M | re.S)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|\|", line):
            words = shlex.split(command)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            yield words


COMMANDS = [words for words in _commands() if words]


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "talkface"], ids=" ".join
)
def test_a_tutorial_uses_options_that_exist(words: list[str]) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}

    assert {word for word in words if word.startswith("--")} <= options


def test_a_tutorial_uses_targets_of_make_that_exist() -> None:
    named = {word for words in COMMANDS if words[0] == "make" for word in words[1:]}

    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    text = (DOCS / name).read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)|^\[\w+\]: (\S+)$", text, re.MULTILINE)
    local = [one or other for one, other in targets if "://" not in (one or other)]

    assert local
    for target in local:
        path, _, anchor = target.partition("#")
        page = (DOCS / path).resolve() if path else DOCS / name
        assert page.is_file(), target
        assert not anchor or anchor in _anchors(page), target


def test_every_cell_of_the_comparison_has_a_source_or_says_that_there_is_none() -> None:
    page = (DOCS / "comparison.md").read_text()
    facts = page.split("## Licence and input")[1].split("## Where talkface is weaker")[0]
    rows = [line for line in facts.splitlines() if line.startswith("| ") and "---" not in line]
    without = re.compile(r"not stated|none published|no code published|on their machines")
    cells = [
        (row[:20], cell)
        for row in rows
        if not row.startswith("| | ")
        for cell in row.strip("|").split("|")[1:]
    ]

    assert len(cells) == 9 * (3 + 4 + 3)
    assert [each for each in cells if "[(" not in each[1] and not without.search(each[1])] == []


def test_every_source_of_the_comparison_is_used_and_defined() -> None:
    page = (DOCS / "comparison.md").read_text()
    named = set(re.findall(r"\[\((\w+)\)\]\[(\w+)\]", page))
    defined = re.findall(r"^\[(\w+)\]: \S+$", page, re.MULTILINE)

    assert all(shown == meant for shown, meant in named)
    assert {meant for _, meant in named} <= set(defined)
    assert len(defined) == len(set(defined))
    sources = page.split("## Sources")[1]
    assert [name for name in defined if not re.search(rf"\b{name} \[", sources)] == []
