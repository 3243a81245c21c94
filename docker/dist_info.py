"""Record the distribution's name and version in the environment that runs this.

    python docker/dist_info.py pyproject.toml

The images copy packages instead of installing them, so that the API image holds nothing of the
model; `importlib.metadata.version("talkface")` finds this record.
"""

import sys
import sysconfig
import tomllib
from pathlib import Path


def main() -> None:
    """Write `talkface-<version>.dist-info/METADATA` into site-packages."""
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    name, version = project["name"], project["version"]
    folder = Path(sysconfig.get_path("purelib")) / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


if __name__ == "__main__":
    main()
