"""What an image holds of our packages, as a folder, and Python that sees nothing else of ours."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
# -S keeps .pth files from being read, so an editable install of ours does not come in; the
# libraries' folders are added by hand.
START = """
import runpy, sys
folder, libraries, module, *arguments = sys.argv[1:]
sys.path[:] = [folder, *sys.path, *libraries.split(":")]
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def copied_paths(stage: str) -> list[tuple[str, str]]:
    """Source and target of what a stage of the Dockerfile copies from the repository."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = re.split(rf"^FROM \S+ AS {stage}$", text, flags=re.MULTILINE)[1]
    found = []
    for line in re.split(r"^FROM ", lines, flags=re.MULTILINE)[0].splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, target = line.split()[1:]
            found += [(source, target) for source in sources]
    return found


def make_image_folder(stage: str, folder: Path) -> None:
    """Copy what the image of this stage gets, less what .dockerignore keeps from it."""
    for source, target in copied_paths(stage):
        path = ROOT / source
        assert path.exists(), f"the Dockerfile copies {source}, which does not exist"
        assert not _is_ignored(source), f"the Dockerfile copies {source}, which is ignored"
        if path.is_dir():
            shutil.copytree(path, folder / target, ignore=_ignore, dirs_exist_ok=True)
        else:
            (folder / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / target)


def run_in_image(
    folder: Path, module: str, *arguments: str, told: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` in the folder, with these TALKFACE_* and other variables."""
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TALKFACE_", "PYTHON"))
    }
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", START, folder, ":".join(libraries), module, *arguments],
        env={**inherited, "COLUMNS": "200", **variables},
        cwd=folder,
        input=told.decode("latin-1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300.0,
    )


def _ignore(folder: str, names: list[str]) -> set[str]:
    inside = Path(folder).relative_to(ROOT)
    return {name for name in names if _is_ignored(str(inside / name))}


def _is_ignored(path: str) -> bool:
    """As Docker decides it: the last pattern that matches the path, or a folder above, counts."""
    parts = Path(path).parts
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        patterns = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch.fnmatch(each, one) for each in above for one in patterns):
            is_ignored = not line.startswith("!")
    return is_ignored
