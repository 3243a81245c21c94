"""The page for everybody: small windows, screen readers, the keyboard alone, the dark; and who has a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Served, Watched
from tests.browser.steps import fill_in, is_wider_than_window, play, press, wait_for_video

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.long]


def serious_findings(page: Page) -> list[tuple[str, Any]]:
    """What axe-core calls serious or worse."""
    # Elements that are fading in have a colour of the moment.
    page.evaluate("Promise.all(document.getAnimations().map(one => one.finished.catch(() => {})))")
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    "context",
    [
        {"color_scheme": "light", "reduced_motion": "reduce"},
        {"color_scheme": "dark", "reduced_motion": "reduce"},
    ],
    indirect=True,
    ids=["light", "dark"],
)
def test_axe_finds_nothing_serious(watched: Watched, portrait: Path) -> None:
    page = watched.page
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(17, 20, 19)") is dark
    page.locator("#options summary").click()
    press(page)
    assert serious_findings(page) == [], "with the options, and with what is missing told"

    fill_in(page, portrait)
    press(page)
    wait_for_video(page)
    page.locator("#job-done summary").click()
    assert serious_findings(page) == [], "with a video"


@pytest.mark.parametrize("context", [{"viewport": {"width": 320, "height": 640}}], indirect=True)
def test_a_narrow_window_scrolls_in_one_direction(
    watched: Watched, served: Served, portrait: Path
) -> None:
    page = watched.page
    for language in ("en", "de"):
        page.goto(f"{served.url}/?lang={language}")
        page.locator("#options summary").click()
        assert not is_wider_than_window(page)
    page.goto(served.url)
    fill_in(page, portrait)
    press(page)
    wait_for_video(page)
    page.locator("#job-done summary").click()
    assert not is_wider_than_window(page)


def focused(page: Page) -> Iterator[str]:
    """Ids of what the tabulator key leads to, in order."""
    for _ in range(60):
        page.keyboard.press("Tab")
        yield page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_the_keyboard_alone_makes_a_video(watched: Watched) -> None:
    page = watched.page
    way = []
    for name in focused(page):
        way.append(name)
        if name == "example":
            break
    assert {"face-file", "face-camera", "voice-file", "voice-record", "submit"} <= set(way)
    page.keyboard.press("Enter")
    expect(page.locator("#voice-note")).to_contain_text("4.4 seconds")
    # The example is there, and the button is next.
    expect(page.locator("#submit")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for_video(page)
    expect(page.locator("#result-title")).to_be_focused()
    assert "result-download" in [name for _, name in zip(range(4), focused(page), strict=False)]


def test_with_a_key_the_whole_road(watched: Watched, served: Served, portrait: Path) -> None:
    page = watched.page
    page.goto(served.signed_url)
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    assert serious_findings(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#key").fill("tf_live_0123456789abcdef_wrong")
    page.keyboard.press("Enter")
    fill_in(page, portrait)
    press(page)
    # It is found out with the first request; then the form goes on its way.
    expect(page.locator("#key-error")).to_have_text("The server does not know this key.")
    page.locator("#key").fill(served.key)
    page.keyboard.press("Enter")
    wait_for_video(page)

    # A video element sends no key; the address has a signature.
    play(page)
    assert "signature=" in (page.locator("#result-video").get_attribute("src") or "")
    assert page.evaluate("localStorage.getItem('talkface.key')") is None, "for this tab only"

    page.locator("#sign-out").click()
    expect(dialog).to_be_visible()


def test_the_documentation_needs_nobody_else(watched: Watched, served: Served) -> None:
    page = watched.page
    page.goto(f"{served.url}/docs")
    expect(page.locator(".opblock")).to_have_count(
        sum(len(operations) for operations in paths_of(page, served).values())
    )
    page.locator(".opblock-post .opblock-summary-control").first.click()
    expect(page.locator(".opblock-section-request-body").first).to_be_visible()
    own = (served.url, "blob:", "data:")
    assert [url for url in watched.requests if not url.startswith(own)] == []
    assert [error for error in watched.errors if "Content Security Policy" in error] == []


def paths_of(page: Page, served: Served) -> dict[str, Any]:
    paths: dict[str, Any] = page.request.get(f"{served.url}/openapi.json").json()["paths"]
    return paths
