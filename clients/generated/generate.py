"""Clients that generators write from openapi.json, each of which makes a video.

    python clients/generated/generate.py python     out/clients/python, by openapi-python-client
    python clients/generated/generate.py all        that one and out/clients/typescript, with a video each

openapi-typescript comes over npm; without node it is left out, and a sentence says so.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "out" / "clients"
DOCUMENT = ROOT / "openapi.json"
IMAGE, AUDIO = ROOT / "examples" / "portrait.jpg", ROOT / "examples" / "speech.wav"


def generate_python(folder: Path) -> Path:
    """Write the Python client.

    Args:
        folder: Where the package `talkface_generated` goes; what is there is replaced.

    Returns:
        The package.

    Raises:
        RuntimeError: The generator failed, or left something out.
    """
    package = folder / "talkface_generated"
    shutil.rmtree(package, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", str(DOCUMENT), "--config", str(HERE / "openapi-python-client.yaml")),
            *("--output-path", str(package), "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"openapi-python-client is not content:\n{ended.stdout}{ended.stderr}")
    return package


def generate_typescript(folder: Path) -> None:
    """Write the types, and compile the program that uses them.

    Raises:
        subprocess.CalledProcessError: A step failed; its output was shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "make_video.ts"):
        shutil.copy(HERE / name, folder)
    for command in (
        ["npm", "install", "--silent", "--no-audit", "--no-fund"],
        ["npx", "openapi-typescript", str(DOCUMENT), "--output", "schema.d.ts"],
        [
            *("npx", "tsc", "--strict", "--target", "es2022", "--module", "nodenext"),
            *("--types", "node", "--skipLibCheck", "make_video.ts"),
        ],
    ):
        subprocess.run(command, cwd=folder, check=True)


def main(which: str) -> int:
    """Write the clients, and make their videos where all are asked for."""
    commands: dict[str, list[str]] = {}
    generate_python(OUT / "python")
    program = str(HERE / "make_video.py")
    commands["python"] = [sys.executable, program, str(OUT / "python")]
    print(f"openapi-python-client wrote {OUT / 'python'}")
    if which == "python":
        return 0
    if shutil.which("npm") is None:
        print("openapi-typescript is left out: it needs node and npm, which are not on PATH.")
    else:
        generate_typescript(OUT / "typescript")
        commands["typescript"] = ["node", str(OUT / "typescript" / "make_video.js")]
        print(f"openapi-typescript wrote {OUT / 'typescript'}")
    demo = _demo()
    port = demo.free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="talkface-clients-") as data_dir,
        demo.running_server(port, Path(data_dir), OUT / "server.log") as server,
        demo.httpx2.Client(base_url=url) as client,
    ):
        demo.wait_until_ready(client, server)
        for name, command in commands.items():
            output = OUT / f"{name}.mp4"
            subprocess.run([*command, url, str(IMAGE), str(AUDIO), str(output)], check=True)
            print(f"{name}: {output}, {output.stat().st_size} bytes")
    return 0


def _demo() -> ModuleType:
    """`examples/demo.py`, which knows how to run a service."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "all"))
