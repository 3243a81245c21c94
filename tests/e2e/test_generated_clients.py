"""A client that openapi-python-client writes from the committed document makes a video."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.media.probe import probe

# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("service")

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "clients" / "generated"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the generator wrote; it fails where it had to leave anything out."""
    folder = tmp_path_factory.mktemp("client")
    code = "import sys, generate, pathlib; generate.generate_python(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, folder], cwd=GENERATED, check=True)
    return folder / "talkface_generated"


def test_it_makes_a_video(
    package: Path, server: Any, portrait: Path, voice: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    program = [sys.executable, GENERATED / "make_video.py", package.parent, server.url]

    ended = subprocess.run(
        [*program, portrait, voice, film], capture_output=True, text=True, timeout=120.0
    )

    assert ended.returncode == 0, ended.stderr
    assert (probe(film).num_frames, probe(film).audio_codec) == (25, "aac")


def test_files_are_files_and_nothing_is_sent_that_was_not_chosen(package: Path) -> None:
    body = (package / "models" / "create_talking_face_body.py").read_text()

    for name in ("audio", "video", "driving_video"):
        assert f"    {name}: File | Unset = UNSET" in body
    assert "    image: list[File] | Unset = UNSET" in body
    # `blink` beside a video is refused, also where it is the default.
    assert "    blink: bool | Unset = UNSET" in body


def test_functions_have_names_that_a_person_would_choose() -> None:
    paths = json.loads((ROOT / "openapi.json").read_text())["paths"]
    names = {operation["operationId"] for path in paths.values() for operation in path.values()}

    assert {"create_talking_face", "get_job", "get_content", "list_jobs", "cancel_job"} <= names
    assert all(name.isidentifier() and "v1" not in name for name in names)
