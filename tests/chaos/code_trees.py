"""Two releases side by side: the previous one, and this tree with one option more."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.previous_release import CODE, NOT_NEEDED, ROOT, TEST_CODE, extract

OPTION: Final = "novelty"
CHOSEN: Final = 5
"""What callers of the next release choose; the default is 0."""
_FIELD: Final = f"""\
    {OPTION}: Annotated[
        int, Field(ge=0, le=9, description="An option that only the next release has.")
    ] = 0
"""
_TELL: Final = (
    "import service, worker; from worker.contract.messages import SamplingOptions; "
    "print(service.__file__, worker.__file__, *SamplingOptions.model_fields, sep='\\n')"
)


@dataclass(frozen=True)
class CodeTrees:
    """Folders that each are a PYTHONPATH."""

    previous: Path
    next: Path


def lay_out(folder: Path) -> CodeTrees:
    """Write both trees and make sure that processes really use them.

    Raises:
        tests.previous_release.NoHistoryError: The previous release cannot be taken from here.
    """
    trees = CodeTrees(extract(folder / "previous"), folder / "next")
    _copy_this_tree(trees.next)
    _add_option(trees.next / "worker" / "contract" / "messages.py")
    assert OPTION in _options(trees.next), f"{OPTION} was not inserted"
    assert OPTION not in _options(trees.previous), f"{OPTION} is not new"
    return trees


def _copy_this_tree(target: Path) -> None:
    left_out = {ROOT / path for path in NOT_NEEDED}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or Path(folder, name) in left_out]

    for name in (*CODE, *TEST_CODE):
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=ignored)
        else:
            shutil.copyfile(source, copy)


def _add_option(messages: Path) -> None:
    """Insert a field before the first one of `SamplingOptions`.

    The real pipeline would be handed it as an argument; the test card ignores it.
    """
    text = messages.read_text()
    [options] = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == "SamplingOptions"
    ]
    first = next(node for node in options.body if isinstance(node, ast.AnnAssign))
    lines = text.splitlines(keepends=True)
    lines.insert(first.lineno - 1, _FIELD)
    messages.write_text("".join(lines))


def _options(tree: Path) -> list[str]:
    """The options of a release, as a process of it tells them."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-P", "-c", _TELL]
    told = subprocess.run(
        command, env=environment, cwd=tree, capture_output=True, text=True, check=True
    )
    *modules, options = told.stdout.split("\n", maxsplit=2)
    assert all(Path(module).is_relative_to(tree) for module in modules), (
        f"expected the modules of {tree}, got {modules}"
    )
    return options.split()
