"""What is wrong is told beside the field that it concerns."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import FilePayload, expect

from tests.browser.conftest import MAX_IMAGE_BYTES, Served, Watched
from tests.browser.steps import fill_in, picture, press, voice, wait_for_video

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.long]


def told(watched: Watched, field: str, sentence: str) -> None:
    """The sentence is beside the field, seen and announced, and beside no other."""
    page = watched.page
    place = page.locator(f"#{field}-error")
    expect(place).to_contain_text(sentence)
    expect(place).to_be_visible()
    assert place.get_attribute("role") == "alert"
    shown = page.locator(".error:visible").evaluate_all("all => all.map(one => one.id)")
    assert shown == [f"{field}-error"]
    described = page.locator(f"[aria-describedby~={field}-error]").count()
    assert described or field == "form"


def test_what_is_missing_is_told_at_once(watched: Watched) -> None:
    page = watched.page
    press(page)

    expect(page.locator("#face-error")).to_have_text("Choose a portrait or a film first.")
    expect(page.locator("#voice-error")).to_have_text("Choose or record a voice first.")
    expect(page.locator("#face-file")).to_be_focused()
    expect(page.locator("#face-file")).to_have_attribute("aria-invalid", "true")


def test_files_that_the_page_itself_refuses(watched: Watched, portrait: Path) -> None:
    page = watched.page
    page.locator("#face-file").set_input_files(picture(b"Dear all", "letter.txt", "text/plain"))
    told(watched, "face", "neither a picture nor a film")

    page.locator("#face-file").set_input_files(picture(bytes(MAX_IMAGE_BYTES + 1)))
    told(watched, "face", "at most 2 MB")

    page.locator("#face-file").set_input_files(portrait)
    page.locator("#voice-file").set_input_files(voice(0.1))
    told(watched, "voice", "This lasts 0.10 s")

    page.locator("#voice-file").set_input_files(picture(b"%PDF-", "a.pdf", "application/pdf"))
    told(watched, "voice", "neither a sound nor a film")


def test_files_that_the_server_refuses(watched: Watched, portrait: Path, tmp_path: Path) -> None:
    page = watched.page
    fill_in(page, picture(portrait.read_bytes()[:600]))
    press(page)
    told(watched, "face", "cannot be decoded")

    page.locator("#face-file").set_input_files(portrait)
    noise = FilePayload(name="a.wav", mimeType="audio/wav", buffer=b"no sound at all" * 50)
    page.locator("#voice-file").set_input_files(noise)
    expect(page.locator("#voice-note")).to_contain_text("the server measures it")
    press(page)
    told(watched, "voice", "The audio is not")

    page.locator("#voice-file").set_input_files(voice())
    page.locator("#driving_video").set_input_files(picture(b"no film" * 99, "a.mp4", "video/mp4"))
    press(page)
    # It is in the fold of the options, which opens.
    told(watched, "driving_video", "The driving video is not")


def test_a_picture_without_a_face(watched: Watched) -> None:
    page = watched.page
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).save(buffer, format="JPEG")
    fill_in(page, picture(buffer.getvalue()))

    press(page)

    told(watched, "face", "No face was found")
    expect(page.locator("#job")).to_be_hidden()


def test_numbers_out_of_range(watched: Watched, portrait: Path) -> None:
    page = watched.page
    fill_in(page, portrait)
    page.locator("#options summary").click()
    page.locator("#fps").fill("5")
    page.locator("#options summary").click()
    press(page)
    told(watched, "fps", "Between 10 and 60 are possible.")
    page.locator("#fps").fill("25")

    page.get_by_role("radio", name="Listening").check(force=True)
    page.locator("#seconds").fill("0")
    press(page)
    told(watched, "voice", "Between 0.2 and 600 seconds are possible.")


def test_a_server_that_does_not_answer_costs_nothing(watched: Watched, portrait: Path) -> None:
    page = watched.page
    keys: list[str | None] = []
    page.on("request", lambda request: keys.append(request.headers.get("idempotency-key")))
    fill_in(page, portrait)
    page.route("**/v1/talking-face", lambda route: route.abort())
    press(page)
    told(watched, "form", "The server does not answer.")

    page.unroute("**/v1/talking-face")
    press(page)

    wait_for_video(page)
    # The same request, so the server would have known it, had it arrived the first time.
    sent = [key for key in keys if key]
    assert len(sent) == 2 and len(set(sent)) == 1


def test_problems_are_told_in_the_language_of_the_page(
    watched: Watched, served: Served, portrait: Path
) -> None:
    page = watched.page
    page.goto(f"{served.url}/?lang=de")
    page.locator("#face-file").set_input_files(picture(portrait.read_bytes()[:600]))
    page.locator("#voice-file").set_input_files(voice())
    expect(page.locator("#voice-note")).to_contain_text("1 Sekunden")

    press(page)

    told(watched, "face", "lässt sich nicht lesen")
