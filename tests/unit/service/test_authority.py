"""Keys and certificates of an installation: made once, closed to others, renewed in time."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

import service.provenance.authority
from service.provenance.authority import Authority, AuthorityError, identity


def test_an_authority_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "keys"

    first, again = Authority(folder).own_identity(), Authority(folder).own_identity()

    assert first == again
    assert first.algorithm == "es256"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("ca.key", "signer.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    leaf, issuer = x509.load_pem_x509_certificates(first.chain.encode())
    leaf.verify_directly_issued_by(issuer)
    assert Authority(folder).trust().anchors in first.chain
    assert Authority(tmp_path / "other").own_identity().chain != first.chain
    # Nothing of the machine or its user is in it.
    assert issuer.subject.rfc4514_string().startswith("CN=talkface installation ")


def test_nobody_is_trusted_before_anything_was_signed(tmp_path: Path) -> None:
    assert Authority(tmp_path / "keys").trust().anchors == ""
    assert not (tmp_path / "keys").exists()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Authority(tmp_path).own_identity()
    (tmp_path / "signer.key").chmod(0o640)

    with pytest.raises(AuthorityError, match=r"signer\.key has mode 0640; expected 0600"):
        Authority(tmp_path).own_identity()


def test_a_certificate_is_renewed_by_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Authority(tmp_path).own_identity()
    anchors = Authority(tmp_path).trust().anchors
    monkeypatch.setattr(service.provenance.authority, "_RENEWED_AFTER", timedelta(0))

    after = Authority(tmp_path).own_identity()

    assert after.certificate_sha256 != before.certificate_sha256
    assert Authority(tmp_path).trust().anchors == anchors


def test_a_lost_authority_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Authority(tmp_path).own_identity()
    (tmp_path / "ca.key").unlink()
    monkeypatch.setattr(service.provenance.authority, "_RENEWED_AFTER", timedelta(0))

    with pytest.raises(AuthorityError, match=r"ca\.key is missing; restore it from the backup"):
        Authority(tmp_path).own_identity()


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    one, other = Authority(tmp_path / "a").own_identity(), Authority(tmp_path / "b").own_identity()

    with pytest.raises(AuthorityError, match="does not belong to the certificate in the file"):
        identity(one.chain, other.key, "the file")
