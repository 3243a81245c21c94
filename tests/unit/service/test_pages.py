"""The pages' texts, files and headers; what a browser makes of them is in tests/browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.main import create_app
from service.pages.assets import STATIC, TEXTS, Assets
from service.pages.languages import choose_language, languages, texts_of
from service.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = STATIC.parent / "templates"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    # No Redis is there: pages need none, nor a key.
    folder = tmp_path_factory.mktemp("data")
    settings = ServiceSettings(
        data_dir=folder, redis_url=f"unix://{folder}/absent.sock", require_keys=True
    )
    with TestClient(create_app(settings)) as client:
        yield client


def static_address(client: TestClient) -> str:
    found = re.search(r'data-static="([^"]+)"', client.get("/").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_are_for_everybody_and_run_no_script_of_others(client: TestClient, path: str) -> None:
    page = client.get(path)

    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text and " style=" not in page.text
    assert not re.findall(r"(?:src|href)=\"https?:", page.text)
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == page.headers["content-length"]


def test_files_are_kept_for_a_year_under_the_digest_of_all(client: TestClient) -> None:
    address = f"{static_address(client)}/app.js"

    file = client.get(address)

    assert file.status_code == 200
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in file.headers["cache-control"]
    assert client.head(address).headers["content-length"] == str(len(file.content))
    again = client.get(address, headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_another_release_asks_under_its_own_digest(client: TestClient) -> None:
    file = client.get("/static/0123456789abcdef/app.js")

    assert (file.status_code, file.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "name", ["../assets.py", "..%2fassets.py", "nothing.js", "", "/etc/passwd"]
)
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/0123456789abcdef/{name}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_post_is_told_what_is_possible(client: TestClient) -> None:
    answer = client.post("/")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_every_language_has_every_text() -> None:
    keys = set(texts_of("en"))
    for language in languages():
        texts = texts_of(language)
        assert {key for key in texts if not key.startswith("problem.")} == keys, language
        for key in keys:
            names = [set(re.findall(r"\{\w+\}", one[key])) for one in (texts, texts_of("en"))]
            assert names[0] == names[1], f"{language}: {key}"


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    files = [*TEMPLATES.glob("*.html"), *STATIC.glob("*.js")]
    source = "\n".join(path.read_text() for path in files)
    used = set(re.findall(r"\bt\(\s*\"([\w.]+)\"|\bt\[['\"]([\w.]+)['\"]\]", source))
    asked = {first or second for first, second in used}
    keys = set(texts_of("en"))

    assert asked <= keys
    # Some are put together: `t(`job.${stage}`)`, `t[name ~ '.' ~ value]`, a condition between two.
    made = re.compile(r"(fact|job|label|preset|motion)\.|language$")
    quoted = set(re.findall(r"\"([\w.]+)\"", source))
    assert {key for key in keys - asked - quoted if not made.match(key)} == set()


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "de-CH, de;q=0.9, en;q=0.8", "de"),
        (None, "fr, en;q=0.5, de;q=0.9", "de"),
        (None, "fr-FR", "en"),
        (None, "de;q=0, en", "en"),
        (None, "de;q=nonsense", "en"),
        ("en", "de", "en"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_readers(wanted: str | None, accepted: str, language: str) -> None:
    assert choose_language(wanted, accepted) == language


def test_a_page_says_its_language(client: TestClient) -> None:
    page = client.get("/", headers={"Accept-Language": "de"})

    assert page.headers["content-language"] == "de"
    assert 'lang="de"' in page.text and texts_of("de")["go"] in page.text


def test_a_text_can_be_typed_where_a_voice_server_is_set(client: TestClient) -> None:
    class WithVoiceServer(ServiceSettings):
        tts_url: str | None = "http://127.0.0.1:8880/v1"

    page = TestClient(create_app(WithVoiceServer.model_construct())).get("/").text

    assert '<textarea id="text"' in page and 'value="text"' in page
    assert "<textarea" not in client.get("/").text


def test_behind_a_proxy_addresses_begin_with_its_path() -> None:
    app = create_app(ServiceSettings.model_construct())
    page = TestClient(app, root_path="/tf").get("/tf/").text

    assert 'data-root="/tf"' in page and 'data-static="/tf/static/' in page


def test_pictures_and_examples_are_what_they_were_made_from() -> None:
    example = STATIC / "example" / "portrait.jpg"
    assert example.read_bytes() == (ROOT / "examples" / "portrait.jpg").read_bytes()


def test_swagger_ui_is_the_release_that_the_notice_names() -> None:
    bundle = (STATIC / "swagger-ui" / "swagger-ui-bundle.js").read_text()
    (version,) = re.findall(r"Swagger UI ([\d.]+)", (ROOT / "NOTICE.md").read_text())

    assert f'"{version}"' in bundle
    assert (STATIC / "swagger-ui" / "LICENSE.txt").read_text().lstrip().startswith("Apache License")


def test_no_file_is_left_out() -> None:
    kinds = {Path(name).suffix for name in Assets().names()}
    left = [path.name for path in STATIC.rglob("*") if path.is_file() and path.suffix not in kinds]

    assert left == []
    assert {json.loads(path.read_text())["language"] for path in TEXTS.iterdir()} == set(
        languages().values()
    )
