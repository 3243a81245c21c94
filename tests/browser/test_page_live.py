"""A video is played in a real browser while it is drawn, and goes on as the finished file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.steps import fill_in, press, voice, wait_for_video, wait_until
from tests.integration.conftest import RedisServer, WorkerProcess
from tests.integration.live_server import live_server

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.long]


@pytest.fixture
def slow_service(tmp_path: Path) -> Iterator[str]:
    """One whose worker needs longer for a second of video than a second."""
    with tempfile.TemporaryDirectory(prefix="tf-redis-") as folder, ExitStack() as running:
        redis = RedisServer(Path(folder))
        redis.start()
        running.callback(redis.stop)
        worker = WorkerProcess(redis.url, tmp_path, tmp_path / "log", test_card_frame_ms=60)
        running.callback(worker.kill)
        worker.wait_for("worker_listening")
        yield running.enter_context(live_server(redis.url, tmp_path)).url


def test_a_video_plays_while_it_is_drawn_and_goes_on_where_it_was(
    context: BrowserContext, slow_service: str, portrait: Path
) -> None:
    page = context.new_page()
    page.goto(slow_service)
    fill_in(page, portrait, voice(8.0))
    press(page)
    live = page.locator("#job-live")
    expect(live).to_be_visible()
    expect(page.locator("#job-progress")).to_be_visible()

    live.evaluate("video => { video.muted = true; return video.play(); }")
    wait_until(page, "document.getElementById('job-live').currentTime > 0.5")
    expect(page.locator("#job-progress")).to_be_visible()  # it is still drawn

    wait_for_video(page)
    expect(live).to_be_hidden()
    at_s = page.locator("#result-video").evaluate("video => video.currentTime")
    assert at_s > 0.5
