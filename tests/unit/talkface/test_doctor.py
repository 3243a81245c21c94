from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image

from tests.signer import shared_signer


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    return subprocess.run(
        [sys.executable, "-m", "talkface", "doctor", *arguments],
        env={**inherited, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=300.0,
    )


def findings(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(ended.stdout)}


def test_a_complete_installation_is_found_complete(tmp_path: Path) -> None:
    ended = doctor("--json", "--data-dir", str(tmp_path))

    found = findings(ended)
    missing = {name: each for name, each in found.items() if each["state"] == "missing"}
    assert missing == {}
    assert ended.returncode == 0
    for name in ("python", "torch", "ffmpeg", "redis", "mediapipe", "weights", "disk"):
        assert found[name]["state"] == "ok"
    assert sys.executable in found["python"]["found"]


def test_the_faces_of_a_picture_are_listed_as_face_index_counts_them(tmp_path: Path) -> None:
    person = Image.fromarray(skimage.data.astronaut()[0:300, 80:380])
    picture = Image.new("RGB", (700, 400), (120, 130, 120))
    picture.paste(person, (0, 0))
    picture.paste(person.resize((210, 210)), (450, 100))
    picture.save(tmp_path / "two.png")

    ended = doctor("--image", str(tmp_path / "two.png"), "--json")

    first, second = json.loads(ended.stdout)
    assert (first["face_index"], second["face_index"]) == (0, 1)
    assert first["size_px"] > second["size_px"]
    assert first["bbox_xyxy"][2] < 300 < 450 < second["bbox_xyxy"][0]
    assert first["is_large_enough"]
    assert "face_index 1: " in doctor("--image", str(tmp_path / "two.png")).stdout


def test_what_is_missing_comes_with_a_remedy(tmp_path: Path) -> None:
    ended = doctor(
        *("--json", "--data-dir", str(tmp_path)),
        TALKFACE_REDIS_URL=f"redis://:secret@localhost:1/0?path={tmp_path}",
        TALKFACE_WEIGHTS_DIR=str(tmp_path),
        IMAGEIO_FFMPEG_EXE="/absent/ffmpeg",
        TORCH_HOME=str(tmp_path),
    )

    found = findings(ended)
    assert ended.returncode == 5
    for name in ("redis", "weights", "ffmpeg"):
        assert found[name]["state"] == "missing"
        assert found[name]["remedy"]
    assert "secret" not in ended.stdout
    # Absent, and nothing needs it: the files and where to get them are named all the same.
    assert found["face-alignment"]["state"] == "optional"
    assert "https://" in found["face-alignment"]["found"]


@pytest.mark.long
def test_people_get_a_list(tmp_path: Path) -> None:
    ended = doctor("--data-dir", str(tmp_path), TALKFACE_WEIGHTS_DIR=str(tmp_path))

    assert ended.returncode == 5
    for word in ("python", "torch", "weights", "missing", "TALKFACE_WEIGHTS_DIR"):
        assert word in ended.stdout


def test_a_signer_that_is_away_is_missing_where_one_is_expected(tmp_path: Path) -> None:
    folder = ("--json", "--data-dir", str(tmp_path))

    signer = shared_signer()
    there = findings(doctor(*folder, TALKFACE_SIGNER_SOCKET=str(signer.socket)))["signer"]
    (tmp_path / "signer").mkdir()
    (tmp_path / "signer" / "signer.sock").touch()
    gone = doctor(*folder)
    unsigned = findings(doctor(*folder, TALKFACE_CONTENT_CREDENTIALS="false"))["signer"]

    assert (there["state"], gone.returncode, unsigned["state"]) == ("ok", 5, "optional")
    assert findings(gone)["signer"]["state"] == "missing"
    assert "cannot connect" in findings(gone)["signer"]["found"]
