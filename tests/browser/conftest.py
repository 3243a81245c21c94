"""A real Chromium, and one service for all tests that look at its pages with it.

Everything here lives as long as the session, and the tests are one xdist group, so that there is one of each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from service.keys import KeyStore
from tests.integration.conftest import RedisServer, WorkerProcess
from tests.integration.live_server import live_server
from tests.signer import shared_signer
from worker.contract.artifact_folder import FolderStore

NO_CHROMIUM = "no Chromium on this machine; `apt install chromium` for the tests of the page"
# Cameras and microphones of the browser's own; sandboxes need rights that root does not have in a container.
ARGUMENTS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--mute-audio")
MAX_IMAGE_BYTES = 2_000_000
# For a machine that hangs; nothing here is a speed test.
expect.set_options(timeout=60_000)


def find_chromium() -> str | None:
    """The browser, by the names that distributions give it."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass
class Served:
    """A running service, twice: open to this machine, and for keys only."""

    url: str
    signed_url: str
    key: str


@dataclass
class Watched:
    """What happened in a browser's window.

    Args:
        page: The window.
        errors: What the console and the scripts complained of.
        requests: Addresses that were asked for.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


# Of one module and no longer: while its driver runs, no other test of the process can start an event loop.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*ARGUMENTS, *sandbox])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The application, a worker that draws a test card, and an inspector that really looks for faces."""
    data_dir = tmp_path_factory.mktemp("data")
    with tempfile.TemporaryDirectory(prefix="tf-redis-") as folder, ExitStack() as running:
        redis = RedisServer(Path(folder))
        redis.start()
        running.callback(redis.stop)
        for module in ("worker", "worker.inspection"):
            log = data_dir / f"{module}.log"
            process = WorkerProcess(redis.url, data_dir, log, module)
            running.callback(process.kill)
            process.wait_for("worker_listening")
        with redis.client() as client:
            _, key = KeyStore(client, FolderStore(data_dir)).create("page")
        options: dict[str, Any] = {
            "max_image_bytes": MAX_IMAGE_BYTES,
            "signer_socket": shared_signer().socket,
        }
        open_to_all = running.enter_context(live_server(redis.url, data_dir, **options))
        signed = running.enter_context(
            live_server(redis.url, data_dir, require_keys=True, **options)
        )
        yield Served(open_to_all.url, signed.url, key)


@pytest.fixture
def context(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A browser that knows nothing yet; a test's parameter says how it is."""
    made = chromium.new_context(locale="en-GB", **getattr(request, "param", {}))
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def watched(context: BrowserContext, served: Served) -> Watched:
    """A window that shows the page."""
    page = context.new_page()
    seen = Watched(page)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(served.url)
    return seen


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "portrait.jpg"
    Image.fromarray(skimage.data.astronaut()[0:301, 80:381]).save(path, quality=90)
    return path


@pytest.fixture(scope="session")
def two_people(portrait: Path) -> Path:
    """The same person twice, once smaller."""
    path = portrait.with_name("two.jpg")
    whole = Image.new("RGB", (620, 301), "#888888")
    with Image.open(portrait) as one:
        whole.paste(one, (0, 0))
        whole.paste(one.resize((240, 240)), (340, 40))
    whole.save(path, quality=90)
    return path
