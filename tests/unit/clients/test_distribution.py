"""The client's wheel in an empty environment: what comes with it, and that it starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import sys_tags

CLIENT = Path(__file__).parents[3] / "clients" / "python"


def requirements(found: Distribution) -> set[str]:
    """What a distribution asks for here, without extras."""
    environment = {**default_environment(), "extra": ""}
    wanted = [Requirement(line) for line in found.requires or ()]
    return {
        each.name for each in wanted if each.marker is None or each.marker.evaluate(environment)
    }


def make_wheel(found: Distribution, folder: Path) -> None:
    """A wheel of what is installed here: the tests have no package index."""
    name = found.metadata["Name"].replace("-", "_")
    tag = next(sys_tags()) if "Root-Is-Purelib: false" in (found.read_text("WHEEL") or "") else None
    path = folder / f"{name}-{found.version}-{tag or 'py3-none-any'}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            # Programs beside the packages are the installer's, and it writes its own notes.
            if ".." not in file.parts and file.suffix != ".pyc" and source.is_file():
                wheel.write(source, str(file))


def test_an_empty_environment_gets_the_client_and_little_more(tmp_path: Path) -> None:
    # 1. the client's own wheel, and what it asks for, and what that asks for
    wheels, source = tmp_path / "wheels", tmp_path / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    offline = ["--quiet", "--no-index", "--find-links", str(wheels)]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, source],
        check=True,
    )
    names, todo = set[str](), requirements(distribution("talkface-client"))
    assert todo == {"httpx2", "pydantic"}
    while todo:
        found = distribution(todo.pop())
        names.add(found.metadata["Name"])
        make_wheel(found, wheels)
        todo |= requirements(found) - names

    # 2. an environment with nothing in it; pip works on it from outside
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    into = [*pip, "--python", str(python)]
    assert json.loads(subprocess.check_output([*into, "list", "--format", "json"])) == []
    subprocess.run([*into, "install", *offline, "talkface-client"], check=True)

    # 3. what came, and that it is enough
    came = json.loads(subprocess.check_output([*into, "list", "--format", "json"]))
    assert {each["name"] for each in came} == {
        "annotated-types",
        "anyio",
        "h11",
        "httpcore2",
        "httpx2",
        "idna",
        "pydantic",
        "pydantic_core",
        "talkface-client",
        "truststore",
        "typing_extensions",
        "typing-inspection",
    }
    code = "import talkface_client, sys; talkface_client.Client(); print(talkface_client.__file__)"
    told = subprocess.check_output([python, "-I", "-c", code], text=True)
    assert Path(told.strip()).is_relative_to(tmp_path / "empty")
