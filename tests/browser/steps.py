"""What a person does on the page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import FilePayload, Page, expect

from tests.integration.conftest import eventually
from tests.uploads import tone


def voice(seconds: float = 1.0) -> FilePayload:
    return FilePayload(name="voice.wav", mimeType="audio/wav", buffer=tone(seconds))


def picture(data: bytes, name: str = "picture.jpg", kind: str = "image/jpeg") -> FilePayload:
    return FilePayload(name=name, mimeType=kind, buffer=data)


def fill_in(page: Page, face: Path | FilePayload, sound: FilePayload | None = None) -> None:
    """Choose a face and a voice, and wait until the page has looked at both."""
    page.locator("#face-file").set_input_files(face)
    page.locator("#voice-file").set_input_files(sound or voice())
    expect(page.locator("#voice-note")).to_contain_text("seconds")


def press(page: Page) -> None:
    page.locator("#submit").click()


def wait_for_video(page: Page) -> None:
    expect(page.locator("#job-done")).to_be_visible()


def job_id(page: Page) -> str:
    return page.url.partition("#")[2]


def is_wider_than_window(page: Page) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript is true; the page's policy lets nobody poll inside it."""
    eventually(lambda: page.evaluate(expression), expression)


def play(page: Page) -> None:
    """Play the video until its clock has moved."""
    page.evaluate("document.querySelector('#result-video').play()")
    wait_until(page, "document.querySelector('#result-video').currentTime > 0.2")
