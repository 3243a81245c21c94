"""Who signs: an authority of this installation alone, or certificates that the operator brings.

    <signing_dir>/ca.key, ca.pem           made at the first start, valid for 30 years
    <signing_dir>/signer.key, signer.pem   issued by it, valid for 10 years, a new one each year
    <signing_dir>/others.pem               certificates of the operator's that signed here once

Without a time stamp a signature counts only while its certificate is valid, hence the long lives: a
video shall still verify in ten years. Keys have mode 0600 and never leave the folder.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.provenance.trust import Trust

_AUTHORITY_LIFE: Final = timedelta(days=30 * 365)
_CERTIFICATE_LIFE: Final = timedelta(days=10 * 365)
_RENEWED_AFTER: Final = timedelta(days=365)
# Clocks differ: what was made now must count on a machine that is a little behind.
_BACKDATED: Final = timedelta(hours=1)
# C2PA's own usage, claim signing; e-mail protection is what readers from before it look for.
_CLAIM_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class AuthorityError(Exception):
    """Keys or certificates cannot be used; the message says which and what to do."""


@dataclass(frozen=True)
class Identity:
    """With what is signed.

    Args:
        algorithm: C2PA's name of the signature algorithm.
        chain: The certificate, then those up to its authority, PEM.
        key: Its private key, PEM.
    """

    algorithm: str
    chain: str
    key: str

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate that signs."""
        return x509.load_pem_x509_certificates(self.chain.encode())[0]

    @property
    def certificate_sha256(self) -> str:
        """Its digest, hexadecimal."""
        return self.certificate.fingerprint(SHA256()).hex()


class Authority:
    """The keys in one folder.

    Args:
        folder: Made with mode 0700 when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def own_identity(self) -> Identity:
        """The installation's own certificate; it and its authority are made where there is none.

        Raises:
            AuthorityError: A key can be read by others, or a file is damaged or missing.
            OSError: The folder cannot be used.
        """
        with self._locked():
            if not (self._folder / "ca.pem").exists():
                self._make_authority()
            if not self._is_fresh():
                self._issue()
            chain = (self._folder / "signer.pem").read_text()
            return identity(chain, read_key(self._folder / "signer.key"), "signer.pem")

    def remember(self, who: Identity) -> None:
        """From now on, what this certificate has signed counts as the installation's own.

        Raises:
            AuthorityError: Its chain ends with itself, so nobody can be shown who vouches for it.
        """
        if len(x509.load_pem_x509_certificates(who.chain.encode())) < 2:
            raise AuthorityError(
                "the file of signing certificates has only one; append those up to its authority"
            )
        self._append("others.pem", [f"{who.chain.rstrip()}\n"])

    def remember_clocks(self, authorities: str) -> None:
        """From now on, time stamps of servers that these authorities vouch for are believed.

        Args:
            authorities: Their certificates, PEM.
        Raises:
            AuthorityError: There is none, or one that may not issue certificates.
        """
        try:
            certificates = x509.load_pem_x509_certificates(authorities.encode())
        except ValueError:
            certificates = []
        if not certificates or not all(_is_authority(one) for one in certificates):
            raise AuthorityError(
                "the file of time-stamp authorities holds something else; expected PEM certificates "
                "of authorities, not the server's own"
            )
        self._append(
            "clocks.pem", [one.public_bytes(Encoding.PEM).decode() for one in certificates]
        )

    def _append(self, name: str, texts: Sequence[str]) -> None:
        """Add to a file what it does not hold yet."""
        with self._locked():
            known = _text(self._folder / name)
            new = "".join(text for text in texts if text not in known)
            if new:
                _write(self._folder / name, known + new)

    def trust(self) -> Trust:
        """Whose signature is the installation's own; nobody's where nothing was ever signed."""
        others = _text(self._folder / "others.pem")
        certificates = x509.load_pem_x509_certificates(others.encode()) if others else []
        issuers = [one for one in certificates if _is_authority(one)]
        return Trust(
            anchors=_text(self._folder / "ca.pem"),
            other_anchors="".join(one.public_bytes(Encoding.PEM).decode() for one in issuers),
            other_serials=tuple(
                str(one.serial_number) for one in certificates if one not in issuers
            ),
            clock_anchors=_text(self._folder / "clocks.pem"),
        )

    def made_at(self) -> datetime | None:
        """When the installation's authority was made, or None where there is none."""
        pem = self.trust().anchors
        if not pem:
            return None
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_before_utc + _BACKDATED

    def _is_fresh(self) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate((self._folder / "signer.pem").read_bytes())
        except FileNotFoundError:
            return False
        except ValueError as error:
            raise _damaged(self._folder / "signer.pem") from error
        return datetime.now(UTC) - certificate.not_valid_before_utc < _RENEWED_AFTER

    def _make_authority(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # Two installations can be told apart; no name of a machine or a person gets out.
        name = _name(f"talkface installation {public.digest.hex()[:8]}")
        certificate = (
            _certificate(name, name, key.public_key(), _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(issues=True), critical=True)
            .add_extension(public, critical=False)
            .sign(key, SHA256())
        )
        _write(self._folder / "ca.key", _pem(key))
        # Last: where it is, the key is.
        _write(self._folder / "ca.pem", certificate.public_bytes(Encoding.PEM).decode())

    def _issue(self) -> None:
        authority_pem = (self._folder / "ca.pem").read_text()
        authority = x509.load_pem_x509_certificate(authority_pem.encode())
        authority_key = load_pem_private_key(read_key(self._folder / "ca.key").encode(), None)
        if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
            raise _damaged(self._folder / "ca.key")
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = authority_key.public_key()
        certificate = (
            _certificate(_name("talkface"), authority.subject, key.public_key(), _CERTIFICATE_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(issues=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, _CLAIM_SIGNING]),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False
            )
            .sign(authority_key, SHA256())
        )
        # The certificate goes first and comes last, so that it never stands beside a wrong key.
        (self._folder / "signer.pem").unlink(missing_ok=True)
        _write(self._folder / "signer.key", _pem(key))
        pem = certificate.public_bytes(Encoding.PEM).decode()
        _write(self._folder / "signer.pem", pem + authority_pem)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def identity(chain: str, key: str, source: str) -> Identity:
    """A certificate and its key as an identity.

    Args:
        chain: PEM.
        key: PEM.
        source: What messages call the certificate's file.

    Raises:
        AuthorityError: They do not belong together, or C2PA has no such algorithm.
    """
    try:
        certificate = x509.load_pem_x509_certificates(chain.encode())[0]
        private = load_pem_private_key(key.encode(), None)
    except (ValueError, IndexError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError(f"{source} or its key is no PEM file: {error}") from error
    algorithm = None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = _CURVES.get(private.curve.name)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    if algorithm is None:
        raise AuthorityError(
            f"the key of {source} has an algorithm that C2PA does not know; use an elliptic curve "
            "(P-256, P-384, P-521), Ed25519 or RSA"
        )
    if private.public_key() != certificate.public_key():
        raise AuthorityError(f"the key does not belong to the certificate in {source}")
    return Identity(algorithm, chain, key)


def read_key(path: Path) -> str:
    """The text of a key file that only its owner can read.

    Raises:
        AuthorityError: Others can read it, or it is not there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise AuthorityError(f"{path} is missing; restore it from the backup") from error
    with os.fdopen(descriptor) as stream:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise AuthorityError(f"{path} has mode {mode:04o}; expected 0600 (chmod 600 {path})")
        return stream.read()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    since = datetime.now(UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + life)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "talkface (self-signed)"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _write(path: Path, text: str) -> None:
    """Whole or absent, mode 0600, and durable: it may be the only copy of a key."""
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _damaged(path: Path) -> AuthorityError:
    return AuthorityError(f"{path} cannot be read; restore it from the backup")
