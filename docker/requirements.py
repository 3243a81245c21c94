"""Print the requirements of some extras of pyproject.toml, one a line.

    python docker/requirements.py pyproject.toml service embedded > requirements.txt

The images install libraries first and copy our packages afterwards, so that a changed line of ours
does not install everything anew; pip itself can install an extra only together with its project.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """Read the project's own dependencies and those of the named extras.

    Raises:
        SystemExit: An extra is not declared.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    declared: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := sorted(set(extras) - set(declared)):
        raise SystemExit(f"unknown extras {unknown}; {pyproject} declares {sorted(declared)}")
    return [*project["dependencies"], *(line for extra in extras for line in declared[extra])]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2:])))
