"""The examples for curl and JavaScript make a video with a live service."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model.media.probe import probe

EXAMPLES = Path(__file__).parents[2] / "examples"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 180.0
# One service for them all: starting one costs more than they do.
pytestmark = pytest.mark.xdist_group("service")

PAGE = """<!doctype html><title>example</title><script type="module">
import { makeVideo } from "/make_video.mjs";
const file = async (name) => (await fetch(name)).blob();
let told;
try {
  const options = { preset: "preview" };
  told = await makeVideo("%s", await file("/image"), await file("/audio"), { options });
} catch (error) { told = "failed: " + error; }
await fetch("/told", { method: "POST", body: told });
</script>"""


def check(film: Path) -> None:
    info = probe(film)
    assert (info.num_frames, info.video_codec, info.audio_codec) == (25, "h264", "aac")


def run(command: list[Any]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALKFACE_")}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Any, portrait: Path, voice: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"

    run(["sh", EXAMPLES / "make_video.sh", server.url, portrait, voice, film])

    check(film)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_in_node(server: Any, portrait: Path, voice: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"

    run(["node", EXAMPLES / "make_video.mjs", server.url, portrait, voice, film])

    check(film)


class Site:
    """A site of its own with a page that uses the example; what it tells is put into `told`."""

    def __init__(self, portrait: Path, voice: Path) -> None:
        self.told: queue.Queue[bytes] = queue.Queue()
        self.service = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                module = (EXAMPLES / "make_video.mjs").read_bytes()
                found = {
                    "/": ("text/html", (PAGE % site.service).encode()),
                    "/make_video.mjs": ("text/javascript", module),
                    "/image": ("image/jpeg", portrait.read_bytes()),
                    "/audio": ("audio/wav", voice.read_bytes()),
                }.get(self.path)
                if found is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", found[0])
                self.end_headers()
                self.wfile.write(found[1])

            def do_POST(self) -> None:
                site.told.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def running_site(portrait: Path, voice: Path) -> Iterator[Site]:
    site = Site(portrait, voice)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
        site.server.server_close()


@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="no chromium (README: optional packages)"
)
@pytest.mark.long
def test_javascript_in_a_browser(run_up: Any, portrait: Path, voice: Path, tmp_path: Path) -> None:
    browser = next(found for found in map(shutil.which, BROWSERS) if found)
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += ["--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    with ExitStack() as stack:
        site = stack.enter_context(running_site(portrait, voice))
        # Another site's page may call the service only where the operator says so.
        allowed = {"TALKFACE_CORS_ORIGINS": site.url}
        up = stack.enter_context(run_up(tmp_path / "data", environment=allowed))
        site.service = up.url
        process = subprocess.Popen(
            [browser, *arguments, site.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            told = site.told.get(timeout=LIMIT_S)
        finally:
            process.terminate()
            process.wait(timeout=60.0)
    assert not told.startswith(b"failed"), told
    film = tmp_path / "film.mp4"
    film.write_bytes(told)
    check(film)
