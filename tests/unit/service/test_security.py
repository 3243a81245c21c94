"""Who is let in, without a Redis: exposure, origins, names, links, the secret's file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.dependencies import AdminDep, ContentReaderDep, ListerDep, PrincipalDep, WriterDep
from service.exposure import UnsafeExposureError
from service.keys import Scope
from service.links import LinkSigner
from service.main import create_app
from service.secret_file import InstallSecret, SecretFileError
from service.security import Principal
from service.settings import ServiceSettings

JOB = "0" * 32
OTHER_JOB = "1" * 32


def settings(tmp_path: Path, **values: object) -> ServiceSettings:
    # Nothing listens here: what these tests ask for needs no Redis.
    fixed = {"redis_url": f"unix://{tmp_path}/absent.sock", "data_dir": tmp_path / "data"}
    return ServiceSettings.model_validate({**fixed, **values})


def client(tmp_path: Path, base_url: str = "http://testserver", **values: object) -> TestClient:
    """The application with a route for each way of being let in."""
    app = create_app(settings(tmp_path, **values))

    def who(principal: Principal) -> dict[str, object]:
        return {"id": principal.id, "is_shared": principal.is_shared}

    @app.get("/as/reader")
    def reader(principal: PrincipalDep) -> dict[str, object]:
        return who(principal)

    @app.get("/as/lister")
    def lister(principal: ListerDep) -> dict[str, object]:
        return who(principal)

    @app.get("/as/admin")
    def admin(principal: AdminDep) -> dict[str, object]:
        return who(principal)

    @app.post("/as/writer")
    def writer(principal: WriterDep) -> dict[str, object]:
        return who(principal)

    @app.get("/content/{job_id}")
    def content(principal: ContentReaderDep, job_id: str) -> dict[str, object]:
        return {"seen": principal.may_see(job_id, "someone")}

    return TestClient(app, base_url=base_url)


# --- open to the network ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "203.0.113.9", "a.example"])
def test_a_public_address_without_keys_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UnsafeExposureError, match="TALKFACE_ALLOW_ANONYMOUS"):
        create_app(settings(tmp_path, host=host))


@pytest.mark.parametrize(
    "values",
    [
        {"host": "127.0.0.1"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "require_keys": True},
        {"host": "0.0.0.0", "allow_anonymous": True},
    ],
)
def test_loopback_keys_or_an_explicit_word_open_the_service(
    tmp_path: Path, values: dict[str, object]
) -> None:
    create_app(settings(tmp_path, **values))


@pytest.mark.parametrize("opened", ["allow_anonymous", "loopback_published"])
def test_keys_win_over_whatever_opens_the_service(tmp_path: Path, opened: str) -> None:
    closed = client(tmp_path, host="0.0.0.0", require_keys=True, **{opened: True})

    assert closed.get("/as/reader").status_code == 401


def test_another_server_on_a_public_address_is_refused_at_the_request(tmp_path: Path) -> None:
    anonymous = client(tmp_path)
    app = anonymous.app

    async def on_public_address(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await app({**scope, "server": ("192.168.1.5", 80)}, receive, send)

    assert anonymous.get("/as/reader").status_code == 200
    assert TestClient(on_public_address).get("/as/reader").status_code == 401


# --- without keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:8000", 200),
        ("http://[::1]:8000", 200),
        ("http://attacker.example", 403),
        ("http://faces.example", 200),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_answered(
    tmp_path: Path, base_url: str, status: int
) -> None:
    anonymous = client(tmp_path, base_url, public_url="https://faces.example")

    assert anonymous.get("/as/reader").status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://testserver", 200),
        ("https://shop.example", 200),
        ("https://attacker.example", 403),
        ("http://testserver.attacker.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_sites_cannot_post_without_keys(
    tmp_path: Path, origin: str | None, status: int
) -> None:
    anonymous = client(tmp_path, cors_origins="https://shop.example/, https://b.example")
    headers = {"Origin": origin} if origin else {}

    assert anonymous.post("/as/writer", headers=headers).status_code == status


def test_strangers_get_no_lists_and_no_figures(tmp_path: Path) -> None:
    strangers = client(tmp_path, host="0.0.0.0", allow_anonymous=True)
    alone = client(tmp_path)

    assert strangers.get("/as/reader").json() == {"id": "anonymous", "is_shared": True}
    for path in ("/as/lister", "/as/admin"):
        refused = strangers.get(path)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert alone.get(path).status_code == 200


def test_too_many_requests_are_told_how_long_to_wait(tmp_path: Path) -> None:
    strangers = client(
        tmp_path, host="0.0.0.0", allow_anonymous=True, read_rate="3/hour", write_rate="1/hour"
    )

    answers = [strangers.get("/as/reader") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "rate_limited"
    assert answers[3].json()["params"] == {"requests": 3, "per_s": 3600}
    assert 1 <= int(answers[3].headers["retry-after"]) <= 3600
    # Reads and writes are counted apart.
    assert strangers.post("/as/writer").status_code == 200
    assert strangers.post("/as/writer").status_code == 429


def test_who_is_alone_on_the_machine_is_not_counted(tmp_path: Path) -> None:
    alone = client(tmp_path, read_rate="1/hour")

    assert [alone.get("/as/reader").status_code for _ in range(3)] == [200, 200, 200]


def test_a_rate_that_is_none_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="read_rate"):
        settings(tmp_path, read_rate="often")


# --- pages of other sites -----------------------------------------------------------------------


def test_no_other_site_may_read_by_default(tmp_path: Path) -> None:
    answer = client(tmp_path).get("/healthz", headers={"Origin": "https://shop.example"})

    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_site_that_is_named_may_read(tmp_path: Path) -> None:
    open_to_shop = client(tmp_path, cors_origins="https://shop.example")

    named = open_to_shop.get("/healthz", headers={"Origin": "https://shop.example"})
    other = open_to_shop.get("/healthz", headers={"Origin": "https://attacker.example"})

    assert named.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in named.headers
    assert "access-control-allow-origin" not in other.headers


def test_sites_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKFACE_CORS_ORIGINS", "https://a.example,https://b.example/")

    assert ServiceSettings().cors_origins == ("https://a.example", "https://b.example")


# --- principals ---------------------------------------------------------------------------------


def test_a_caller_sees_the_own_jobs_and_an_admin_all() -> None:
    mine = Principal(id="me", scopes=frozenset({Scope.READ}))
    admin = Principal(id="boss", scopes=frozenset({Scope.ADMIN}))
    anonymous = Principal(id="anonymous", scopes=frozenset({Scope.READ}))
    link = Principal(id="link", scopes=frozenset({Scope.READ}), only_job=JOB)

    assert [mine.may_see(JOB, owner) for owner in ("me", "you", "anonymous", None)] == [
        *(True, False, False, False)
    ]
    assert all(admin.may_see(JOB, owner) for owner in ("me", "boss", None))
    # Jobs from before there were principals belong to where no key is needed.
    assert anonymous.may_see(JOB, None) and not anonymous.may_see(JOB, "me")
    assert link.may_see(JOB, "me") and not link.may_see(OTHER_JOB, "me")
    assert admin.may(Scope.WRITE) and not mine.may(Scope.WRITE)


# --- links --------------------------------------------------------------------------------------


def link_of(signer: LinkSigner, job_id: str = JOB) -> tuple[str, str]:
    query = parse_qs(signer.query(job_id, "content").removeprefix("?"))
    return query["expires"][0], query["signature"][0]


def test_a_link_works_for_its_job_its_purpose_and_its_time(tmp_path: Path) -> None:
    now = [1_000_000.0]
    signer = LinkSigner(InstallSecret(tmp_path / "key"), 3600, clock=lambda: now[0])
    expires, signature = link_of(signer)

    assert signer.is_valid(JOB, "content", expires, signature)
    assert not signer.is_valid(OTHER_JOB, "content", expires, signature)
    assert not signer.is_valid(JOB, "events", expires, signature)
    assert not signer.is_valid(JOB, "content", str(int(expires) + 1), signature)
    now[0] = float(expires) - 1
    assert signer.is_valid(JOB, "content", expires, signature)
    now[0] = float(expires)
    assert not signer.is_valid(JOB, "content", expires, signature)


@pytest.mark.parametrize("expires", ["", "-1", "1e9", "１２３", "9" * 13, "NaN"])
@pytest.mark.parametrize("signature", ["", "é" * 64, "A" * 64, "0" * 64])
def test_what_is_no_link_of_ours_is_refused(tmp_path: Path, expires: str, signature: str) -> None:
    signer = LinkSigner(InstallSecret(tmp_path / "key"), 3600)

    assert not signer.is_valid(JOB, "content", expires, signature)


def test_the_link_of_a_job_stays_the_same_for_a_while(tmp_path: Path) -> None:
    now = [600.0 + 1]
    signer = LinkSigner(InstallSecret(tmp_path / "key"), 3600, clock=lambda: now[0])

    first = signer.query(JOB, "content")
    now[0] += 58

    assert signer.query(JOB, "content") == first


def test_another_installation_accepts_no_link_of_ours(tmp_path: Path) -> None:
    expires, signature = link_of(LinkSigner(InstallSecret(tmp_path / "a"), 3600))

    assert not LinkSigner(InstallSecret(tmp_path / "b"), 3600).is_valid(
        JOB, "content", expires, signature
    )


def test_a_link_opens_the_content_without_a_key(tmp_path: Path) -> None:
    keyed = client(tmp_path, require_keys=True)
    guard = keyed.app.state.resources.guard  # type: ignore[attr-defined]
    query = guard.link_query(JOB, "content")

    assert keyed.get(f"/content/{JOB}{query}").json() == {"seen": True}
    assert keyed.get(f"/content/{OTHER_JOB}{query}").status_code == 401
    assert keyed.get(f"/content/{JOB}").status_code == 401
    assert keyed.get(f"/as/reader{query}").status_code == 401


def test_without_keys_links_carry_nothing(tmp_path: Path) -> None:
    resources = client(tmp_path).app.state.resources  # type: ignore[attr-defined]

    assert resources.guard.link_query(JOB, "content") == ""
    assert not (tmp_path / "data").exists()


# --- the installation's secret ------------------------------------------------------------------


def test_the_secret_is_readable_by_its_owner_only_and_stays(tmp_path: Path) -> None:
    path = settings(tmp_path).secret_path

    key = InstallSecret(path).key_for("links")

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "artifacts") not in path.parents
    assert InstallSecret(path).key_for("links") == key
    assert InstallSecret(path).key_for("webhook:me") != key
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    InstallSecret(path).key_for("links")
    path.chmod(0o640)

    with pytest.raises(SecretFileError, match="0640"):
        InstallSecret(path).key_for("links")


def test_a_secret_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)

    with pytest.raises(SecretFileError, match="32 bytes"):
        InstallSecret(path).key_for("links")


def test_a_secret_behind_a_link_is_refused(tmp_path: Path) -> None:
    InstallSecret(tmp_path / "key").key_for("links")
    os.symlink(tmp_path / "key", tmp_path / "link")

    with pytest.raises(OSError, match="symbolic links"):
        InstallSecret(tmp_path / "link").key_for("links")


def test_a_bad_secret_is_told_at_start(tmp_path: Path) -> None:
    path = settings(tmp_path).secret_path
    InstallSecret(path).key_for("links")
    path.chmod(0o644)

    with pytest.raises(SecretFileError), client(tmp_path, require_keys=True):
        pass


# --- nothing of the inside --------------------------------------------------------------------


def test_no_error_shows_the_inside(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path))

    @app.get("/boom")
    def boom() -> None:
        raise ZeroDivisionError("secret of the house")

    answer = TestClient(app, raise_server_exceptions=False).get("/boom")

    assert answer.status_code == 500
    assert not re.search(r"secret|Traceback|ZeroDivision|\.py", answer.text)
