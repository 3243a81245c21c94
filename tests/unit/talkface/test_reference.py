"""The documentation names every setting, error code and metric, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from service.problems import STATUS
from talkface.reference import reference
from worker.contract.environment import PREFIX, SETTING_NAMES

ROOT = Path(__file__).parents[3]
DOCS = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]


def test_the_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()

    assert page == reference(), "docs/reference.md is old; `make reference` writes it anew"


def test_every_variable_is_on_the_page_and_nowhere_is_another_one() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    others = {"TORCH", "EXTRAS", "URL", "API_KEY"}  # docker/compose.gpu.yml's, and the clients'

    assert {name for name in SETTING_NAMES if f"`{PREFIX}{name.upper()}`" not in page} == set()
    for path in [*DOCS, ROOT / "docker-compose.yml", ROOT / "Dockerfile"]:
        named = set(re.findall(rf"{PREFIX}([A-Z][A-Z0-9_]*[A-Z0-9])\b", path.read_text()))
        assert {name for name in named if name.lower() not in SETTING_NAMES} <= others, path


def test_the_errors_of_the_api_page_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    table = text.split("| code | status | when |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| ([0-9, ]+) \|", table, re.MULTILINE)
    told = {}
    for codes, statuses in rows:
        names, numbers = re.findall(r"`(\w+)`", codes), re.findall(r"\d+", statuses)
        numbers *= len(names) if len(numbers) == 1 else 1
        told.update(zip(names, map(int, numbers), strict=True))

    assert told == {code.value: status.value for code, status in STATUS.items()}


def test_the_metrics_that_the_pages_name_exist() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    for path in DOCS:
        for name in re.findall(r"\btf_[a-z_]+", path.read_text()):
            assert f"`{name}`" in page, f"{path.name} names {name}"
