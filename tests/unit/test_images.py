"""What the Dockerfile copies is enough for the commands that the images are to have."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.image_folder import ROOT, make_image_folder, run_in_image

# Findings of `doctor` that are about packages of the other image.
OF_THE_MODEL = {"torch", "xformers", "model packages", "weights", "mediapipe", "face-alignment"}
OF_THE_SERVICE = {"service"}
# An environment without some packages: these tests have those of all images.
HIDING = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
import {modules}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    make_image_folder("api", folder)
    return folder


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worker")
    make_image_folder("worker", folder)
    return folder


def findings(folder: Path) -> dict[str, dict[str, Any]]:
    """What `doctor` says where no Redis is named: incomplete, but for nothing else."""
    ended = run_in_image(folder, "talkface.doctor", "--json", "--data-dir", str(folder))
    assert ended.returncode == 5, ended.stdout + ended.stderr
    found = {finding["name"]: finding for finding in json.loads(ended.stdout)}
    missing = {name: each for name, each in found.items() if each["state"] == "missing"}
    assert set(missing) == {"redis"}, missing
    assert "TALKFACE_REDIS_URL is not set" in found["redis"]["found"]
    return found


@pytest.mark.parametrize(
    ("stage", "absent"),
    [("api", {"model", "tests"}), ("worker", {"service", "model.training", "tests"})],
)
def test_the_folders_hold_no_more_than_the_images(
    stage: str, absent: set[str], request: pytest.FixtureRequest
) -> None:
    for module in absent:
        ended = run_in_image(request.getfixturevalue(stage), module)

        assert ended.returncode == 1, f"{module} is found in the {stage} image"
        assert "No module named" in ended.stderr or "spec for" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("talkface.rebuild", "--help"),
        ("talkface.doctor", "--help"),
        ("talkface.keys", "--help"),
        ("talkface.keys", "create", "--help"),
        ("talkface.keys", "list", "--help"),
    ],
    ids=" ".join,
)
def test_commands_of_the_api_image_start(api: Path, command: tuple[str, ...]) -> None:
    ended = run_in_image(api, *command)

    assert ended.returncode == 0, ended.stderr
    assert "Usage:" in ended.stdout


def test_commands_of_the_api_image_load_no_torch(api: Path) -> None:
    (api / "probe.py").write_text(
        "import sys, talkface.doctor, talkface.keys, talkface.rebuild\n"
        "print(talkface.keys.__file__, {'torch', 'numpy'} & set(sys.modules))\n"
    )

    ended = run_in_image(api, "probe")

    assert ended.stdout.split() == [str(api / "talkface" / "keys.py"), "set()"], ended.stderr


def test_keys_in_the_image_say_that_redis_is_away(api: Path) -> None:
    # No server of its own is there to ask, which is told rather than a traceback.
    absent = f"unix://{api}/absent.sock"
    ended = run_in_image(api, "talkface.keys", "list", TALKFACE_REDIS_URL=absent)

    assert (ended.returncode, "Traceback" in ended.stderr) == (40, False)


def test_rebuild_in_the_image_says_what_it_lacks(api: Path) -> None:
    ended = run_in_image(api, "talkface.rebuild", "--data-dir", str(api))

    assert ended.returncode == 3
    assert "TALKFACE_REDIS_URL" in ended.stderr


def test_doctor_looks_at_what_the_api_image_consists_of(api: Path) -> None:
    found = findings(api)

    assert set(found) & OF_THE_MODEL == set()
    for name in ("python", "shared packages", "service", "ffmpeg", "disk"):
        assert found[name]["state"] == "ok"


def test_doctor_looks_at_what_the_worker_image_consists_of(worker: Path) -> None:
    found = findings(worker)

    assert set(found) & OF_THE_SERVICE == set()
    assert set(found) >= OF_THE_MODEL
    for name in ("python", "shared packages", "torch", "weights", "mediapipe", "ffmpeg", "disk"):
        assert found[name]["state"] == "ok"


def test_the_decoders_image_looks_for_watermarks(tmp_path: Path) -> None:
    # The decoder's image is the service's with a few files more.
    for stage in ("api", "decoder"):
        make_image_folder(stage, tmp_path)
    (tmp_path / "frames.pgm").write_bytes(b"P5\n256 256\n255\n" + bytes(256 * 256))
    code = "import worker.watermark_child as c; c.main(['frames.pgm'])\n"
    (tmp_path / "probe.py").write_text(f"{code}import worker.contract.intake.decoder_server\n")

    ended = run_in_image(tmp_path, "probe", told=bytes(32))

    assert json.loads(ended.stdout) == {"key": None, "payload": None}, ended.stderr


@pytest.mark.parametrize(
    ("stages", "extra", "modules"),
    [
        (("api",), "service", "service.main, service.reconciler, service.provenance.__main__"),
        (("api", "decoder"), "decoder", "worker.watermark_child"),
        (("inspector",), "inspector", "worker.inspection, worker.validation"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_image_imports_no_package_that_it_has_not(
    tmp_path: Path, stages: tuple[str, ...], extra: str, modules: str
) -> None:
    for stage in stages:
        make_image_folder(stage, tmp_path)
    brought = installed_by(extra) | {"mediapipe", "talkface"}
    absent = [
        module
        for module, owners in packages_distributions().items()
        if not brought & {canonicalize_name(owner) for owner in owners}
    ]
    (tmp_path / "probe.py").write_text(HIDING.format(absent=absent, modules=modules))

    ended = run_in_image(tmp_path, "probe")

    assert ended.returncode == 0, ended.stderr


def installed_by(extra: str) -> set[str]:
    """What an extra brings, with all that this asks for in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    found: set[str] = set()
    while wanted:
        one = Requirement(wanted.pop())
        name = canonicalize_name(one.name)
        if name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(name)
            wanted += requires(name) or []
    return found


def test_what_the_worker_image_runs_while_it_is_made_is_there(worker: Path) -> None:
    (line,) = re.findall(
        r'python -c "(.+)"', (ROOT / "Dockerfile").read_text().partition("AS worker")[2]
    )
    imports = [part for part in line.split("; ") if part.startswith("from ")]
    assert imports
    (worker / "imports.py").write_text("\n".join(imports))

    ended = run_in_image(worker, "imports")

    assert ended.returncode == 0, ended.stderr


def test_the_inspectors_image_looks_for_faces_and_holds_no_torch(tmp_path: Path) -> None:
    make_image_folder("inspector", tmp_path)
    (tmp_path / "probe.py").write_text(
        "import sys, worker.inspection, worker.validation\n"
        "from model.face.detectors import load_detector\n"
        "load_detector('mediapipe', weights_dir=None, device='cpu')\n"
        "print({'torch', 'diffusers', 'librosa'} & set(sys.modules))\n"
    )

    ended = run_in_image(tmp_path, "probe")
    assert ended.stdout.split() == ["set()"], ended.stderr
    found = findings(tmp_path)
    assert set(found) & (OF_THE_MODEL - {"mediapipe"}) == set()
    assert found["mediapipe"]["state"] == "ok"


def test_the_api_image_serves_the_pages(api: Path) -> None:
    code = (
        "from starlette.testclient import TestClient\n"
        "from service.main import create_app\n"
        "client = TestClient(create_app())\n"
        "page = client.get('/').text\n"
        "address = page.partition('data-static=\"')[2].partition('\"')[0]\n"
        "names = ('app.js', 'texts/en.json', 'swagger-ui/swagger-ui-bundle.js', 'example/speech.m4a')\n"
        "print(*(client.get(f'{address}/{name}').status_code for name in names))\n"
    )
    (api / "pages_probe.py").write_text(code)

    ended = run_in_image(api, "pages_probe")

    # Logs come before it.
    assert ended.stdout.splitlines()[-1] == "200 200 200 200", ended.stderr
