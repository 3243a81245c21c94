"""What pyproject.toml asks for, what the constraints pin, and what the images install agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def pins() -> dict[str, Version]:
    """Package -> version of requirements/constraints.txt."""
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def declared() -> list[Requirement]:
    """All requirements of pyproject.toml that come from elsewhere."""
    lines = list(PROJECT["project"]["dependencies"])
    for name, extra in EXTRAS.items():
        lines += extra if name != "client" else []
    return [Requirement(line) for line in lines + PROJECT["dependency-groups"]["dev"]]


@pytest.mark.parametrize("requirement", declared(), ids=lambda r: r.name)
def test_each_requirement_has_a_pin_inside_its_range(requirement: Requirement) -> None:
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_client_has_the_version_of_the_service() -> None:
    project = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
    assert EXTRAS["client"] == [project["name"]]
    assert project["version"] == PROJECT["project"]["version"]
    assert {Requirement(line).name for line in project["dependencies"]} == {"httpx2", "pydantic"}


def test_the_release_is_dated_in_the_changelog_and_named_in_the_images() -> None:
    version = PROJECT["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert f"ARG VERSION={version}\n" in dockerfile
    labelled = re.findall(r'image.title="talkface (\w+)"', dockerfile)
    assert labelled == ["api", "decoder", "inspector", "worker", "redis"]


def test_packages_without_dependencies_have_exact_versions_and_are_no_extra() -> None:
    text = (ROOT / "requirements" / "no-deps.txt").read_text()
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    assert {r.name for r in requirements} == {"mediapipe", "face-alignment"}
    assert all(re.fullmatch(r"==[\d.]+", str(r.specifier)) for r in requirements)
    assert not {r.name for r in requirements} & {r.name for r in declared()}


def image_requirements(*extras: str) -> "subprocess.CompletedProcess[str]":
    """What the Dockerfile asks docker/requirements.py for."""
    command = [sys.executable, "docker/requirements.py", "pyproject.toml", *extras]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_api_image_gets_the_service_and_no_torch() -> None:
    names = {Requirement(line).name for line in image_requirements("service").stdout.splitlines()}
    assert {"fastapi", "redis", "pydantic"} <= names
    assert not names & {"torch", "numpy", "diffusers", "librosa"}


def test_image_requirements_refuse_an_unknown_extra() -> None:
    answer = image_requirements("worker", "gpus")
    assert answer.returncode == 1
    assert "gpus" in answer.stderr


def test_the_wheel_holds_the_pages() -> None:
    builder = WheelBuilder(str(ROOT))
    packed = {file.distribution_path for file in builder.recurse_included_files()}
    pages = ROOT / "service" / "pages"
    files = {str(p.relative_to(ROOT)) for p in pages.rglob("*") if p.is_file()}

    wanted = {name for name in files if "__pycache__" not in name}
    assert len(wanted) > 40
    assert wanted <= packed
