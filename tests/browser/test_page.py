"""From a face and a voice to a video that plays, in a real browser."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

from tests.browser.conftest import Served, Watched
from tests.browser.steps import (
    fill_in,
    job_id,
    picture,
    play,
    press,
    voice,
    wait_for_video,
    wait_until,
)
from tests.films import film
from tests.uploads import picture as plain_picture

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.long]
MAX_PAGE_BYTES = 150_000


def test_a_portrait_and_a_voice_become_a_video_that_plays(
    watched: Watched, served: Served, portrait: Path
) -> None:
    page = watched.page
    fill_in(page, portrait)
    expect(page.locator("#face-note")).to_contain_text("301 × 301")
    expect(page.locator("#voice-note")).to_have_text(re.compile(r"voice\.wav · 1 seconds · 32 kB"))
    # The inspector's box, drawn over the picture before anything is sent to be made.
    expect(page.locator("#face-boxes rect")).to_have_count(1)
    expect(page.locator("#face-note")).to_contain_text("Face found")
    press(page)
    wait_for_video(page)

    play(page)
    expect(page.locator("#result-facts")).to_contain_text("1 s · 302 × 302")

    with page.expect_download() as download:
        page.locator("#result-download").click()
    file = download.value.path().read_bytes()
    job = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()
    assert len(file) == job["result"]["bytes"]
    page.locator("#job-done summary").click()
    expect(page.locator("#result-details")).to_contain_text(job["result"]["sha256"])
    expect(page.locator("#result-details")).to_contain_text("test-card")

    # Opened anew, by somebody else perhaps, the page shows it again and remembers it.
    page.evaluate("localStorage.clear()")
    page.reload()
    wait_for_video(page)
    expect(page.locator("#history-list img")).to_have_count(1)
    brightest = """async image => {
        const canvas = new OffscreenCanvas(160, 160), pen = canvas.getContext("2d");
        await image.decode();
        pen.drawImage(image, 0, 0);
        return Math.max(...pen.getImageData(0, 0, 160, 160).data.filter((_, i) => i % 4 < 3)); }"""
    assert page.locator("#history-list img").evaluate(brightest) > 150

    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#result-erase").click()
    expect(page.locator("#history")).to_be_hidden()
    assert page.request.get(f"{served.url}/v1/jobs/{job['id']}").status == 404

    # Nothing was asked of anybody else, and nothing hurt the content security policy.
    own = (served.url, "blob:", "data:")
    assert [url for url in watched.requests if not url.startswith(own)] == []
    assert watched.errors == []


def test_the_page_is_light(watched: Watched, served: Served) -> None:
    page = watched.page
    page.wait_for_load_state("networkidle")
    files = dict.fromkeys(url.partition("#")[0] for url in watched.requests)

    weights = {url: len(page.request.get(url).body()) for url in files}

    assert len(weights) > 10, weights
    assert sum(weights.values()) <= MAX_PAGE_BYTES, weights


def test_scripts_in_the_page_itself_do_not_run(watched: Watched) -> None:
    page = watched.page

    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); }"
    )

    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in error for error in watched.errors)


def drop(page: Page, place: str, file: FilePayload) -> None:
    """Let a file fall on a place, as a mouse would."""
    data = base64.b64encode(file["buffer"]).decode()
    transfer = page.evaluate_handle(
        "([name, type, data]) => { const transfer = new DataTransfer();"
        " const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0));"
        " transfer.items.add(new File([bytes], name, { type })); return transfer; }",
        [file["name"], file["mimeType"], data],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event(place, event, {"dataTransfer": transfer})


def test_files_are_dropped(watched: Watched, portrait: Path) -> None:
    page = watched.page

    drop(page, "#face-drop", picture(portrait.read_bytes()))
    drop(page, "#voice-drop", voice())

    expect(page.locator("#face-note")).to_contain_text("301 × 301")
    expect(page.locator("#voice-note")).to_contain_text("1 seconds")
    # Beside its mark a file changes nothing, and above all does not replace the page.
    drop(page, "footer", picture(b"somewhere else"))
    expect(page.locator("#face-note")).to_contain_text("301 × 301")


def test_without_events_the_page_asks(watched: Watched, portrait: Path) -> None:
    page = watched.page
    page.route("**/events*", lambda route: route.abort())
    fill_in(page, portrait)

    press(page)

    wait_for_video(page)


def test_another_voice_for_the_same_face(watched: Watched, portrait: Path) -> None:
    page = watched.page
    fill_in(page, portrait)
    press(page)
    wait_for_video(page)
    first = job_id(page)

    page.locator("#result-again").click()
    expect(page.locator("#voice-empty")).to_be_visible()
    expect(page.locator("#voice-file")).to_be_focused()
    page.locator("#voice-file").set_input_files(voice(0.5))
    press(page)

    expect(page.locator("#result-facts")).to_contain_text("0.5 s")
    assert job_id(page) != first
    expect(page.locator("#history-list li")).to_have_count(2)


def test_one_of_several_faces_is_chosen_before_anything_is_made(
    watched: Watched, served: Served, two_people: Path
) -> None:
    page = watched.page
    fill_in(page, two_people)
    expect(page.locator("#face-note")).to_contain_text("2 faces found")
    page.get_by_role("radio", name="Face 2").click(force=True)

    press(page)
    wait_for_video(page)

    job = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()
    assert job["input"]["options"]["face_index"] == 1
    # The choice stays for the next video.
    expect(page.get_by_role("radio", name="Face 2")).to_have_attribute("aria-checked", "true")


def test_a_film_is_dubbed(watched: Watched, served: Served, tmp_path: Path) -> None:
    page = watched.page
    clip = film(tmp_path / "film.mp4", size="320x240")
    fill_in(page, clip)
    expect(page.locator("#face-note")).to_contain_text("Film, 0:01")
    # A film moves by itself, and needs a voice.
    expect(page.locator("#voice-listen")).to_be_hidden()
    page.locator("#options summary").click()
    expect(page.locator("#motion-field")).to_be_hidden()

    press(page)

    wait_for_video(page)
    job = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()
    assert job["input"]["video"]["num_frames"] == 25


def test_options_are_sent_and_a_face_listens(
    watched: Watched, served: Served, portrait: Path
) -> None:
    page = watched.page
    page.locator("#face-file").set_input_files(portrait)
    page.get_by_role("radio", name="Listening").check(force=True)
    page.locator("#seconds").fill("0.6")
    page.locator("#options summary").click()
    page.locator("input[value=preview]").check(force=True)
    page.locator("input[value=subtle]").check(force=True)
    page.locator("#blink").uncheck()
    page.locator("#seed").fill("7")
    page.locator("#fps").fill("30")
    expect(page.locator("#options-told")).to_have_text("5 changed")

    press(page)

    wait_for_video(page)
    job = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()
    chosen = {"preset": "preview", "motion": "subtle", "blink": False, "seed": 7, "fps": 30.0}
    assert chosen.items() <= job["input"]["options"].items()
    assert job["input"]["options"]["seconds"] == 0.6


def test_camera_and_microphone(watched: Watched, served: Served) -> None:
    page = watched.page

    page.locator("#face-camera").click()
    wait_until(page, "document.querySelector('#camera-video').videoWidth > 0")
    page.locator("#camera-shoot").click()
    expect(page.locator("#face-note")).to_contain_text("×")
    page.locator("#voice-record").click()
    expect(page.locator("#voice-clock")).to_have_text("0:01")
    page.locator("#voice-record").click()
    expect(page.locator("#voice-note")).to_contain_text(re.compile(r"Recording · [\d.]+ seconds"))

    press(page)

    # The browser's test picture has no face; that it and the recording could be read is told by where it ends.
    expect(page.locator("#face-error")).to_contain_text("No face was found")
    assert watched.errors == []


def test_a_job_is_cancelled(watched: Watched, served: Served, portrait: Path) -> None:
    page = watched.page
    fill_in(page, portrait, voice(20))
    page.locator("#options summary").click()
    page.locator("#fps").fill("60")
    press(page)

    page.locator("#job-cancel").click()

    expect(page.locator("#job-error")).to_have_text("Cancelled.")
    expect(page.locator("#job-retry")).to_be_visible()


def test_a_signed_video_is_verified_and_a_changed_one_is_not(
    watched: Watched, served: Served, portrait: Path
) -> None:
    page = watched.page
    fill_in(page, portrait)
    press(page)
    wait_for_video(page)
    page.locator("#job-done summary").click()
    job = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()
    expect(page.locator("#result-details")).to_contain_text(
        job["result"]["credentials"]["manifest"]
    )

    # The service's own word: what it reads in the file, and whose signature that is.
    page.locator("#result-verify").click()
    expect(page.locator("#result-verdict")).to_contain_text("This installation")

    def damage(route: Route) -> None:
        body = bytearray(route.fetch().body())
        body[len(body) // 2] ^= 0xFF
        route.fulfill(body=bytes(body), content_type="video/mp4")

    page.route("**/content*", damage)
    page.locator("#result-verify").click()
    expect(page.locator("#result-verdict")).not_to_contain_text("This installation")
    expect(page.locator("#result-verdict")).to_contain_text("changed")


def test_warnings_are_shown(watched: Watched, portrait: Path) -> None:
    page = watched.page

    def warn(route: Route) -> None:
        job = route.fetch().json()
        job["warnings"] = [{"code": "small_face", "detail": "The face has 70 pixels."}]
        route.fulfill(json=job)

    page.route(re.compile(r"/v1/jobs/[0-9a-f]+$"), warn)
    page.route("**/events*", lambda route: route.abort())
    fill_in(page, portrait)
    press(page)
    wait_for_video(page)

    expect(page.locator("#result-warnings")).to_have_text("The face has 70 pixels.")


def test_the_label_is_chosen(watched: Watched, served: Served, portrait: Path) -> None:
    page = watched.page
    fill_in(page, portrait)
    page.locator("#options summary").click()
    expect(page.locator("#label option").first).to_have_text("As usual (All the time)")
    expect(page.locator("#label_language")).to_contain_text("Portuguese")
    page.locator("#label").select_option("intro")
    page.locator("#label_language").select_option("pt")
    expect(page.locator("#options-told")).to_have_text("2 changed")

    press(page)

    wait_for_video(page)
    options = page.request.get(f"{served.url}/v1/jobs/{job_id(page)}").json()["input"]["options"]
    assert (options["label"], options["label_language"]) == ("intro", "pt")


def test_a_picture_without_a_face_is_told_before_anything_is_made(watched: Watched) -> None:
    page = watched.page

    page.locator("#face-file").set_input_files(picture(plain_picture()))

    expect(page.locator("#face-error")).to_contain_text("No face was found")
    assert not [url for url in watched.requests if url.endswith("/v1/talking-face")]
    assert watched.errors == []
