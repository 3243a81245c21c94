"""Imports run one way only, and the packages are found under their own names."""

import json
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("service", "worker", "model", "talkface")


def run_python(code: str, cwd: Path) -> str:
    """Run `code` in a fresh interpreter; its standard output."""
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code]
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "0 broken" in answer.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_imported_under_its_own_name_from_anywhere(package: str, tmp_path: Path) -> None:
    found = run_python(f"import {package}; print({package}.__file__)", tmp_path)
    assert Path(found.strip()).parent.name == package


@pytest.mark.parametrize(
    "module", ["worker.contract.intake.entry", "worker.jobs", "worker.gpu_worker"]
)
def test_light_processes_stay_without_torch(module: str, tmp_path: Path) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run_python(code, tmp_path)))
    assert module in loaded
    assert not loaded & {"torch", "numpy", "diffusers", "librosa", "cv2", "scipy"}


def test_docker_folder_does_not_shadow_the_docker_sdk() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_no_package_under_tests_shadows_ours() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def in_circles(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, and those between two such circles."""
    left = dict(imports)
    while True:
        # What imports none of the others, or is imported by none of them, is in no circle.
        imported = set().union(*left.values())
        kept = {m for m, others in left.items() if others & left.keys() and m in imported}
        if len(kept) == len(left):
            return sorted(left)
        left = {m: left[m] & kept for m in kept}


def test_no_circle_between_modules() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {
        # worker.inspection imports itself where it is the main module
        module: graph.find_modules_directly_imported_by(module) - {module}
        for module in graph.modules
    }
    assert in_circles(imports) == []


def test_a_circle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set()}
    assert in_circles(imports) == ["b", "c"]
