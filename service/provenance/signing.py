"""One file: signed last, read back, and vouched for only if what was read is as it should be."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import c2pa

from service.provenance.authority import (
    Authority,
    AuthorityError,
    Identity,
    identity,
    read_key,
)
from service.provenance.manifest import MEDIA_TYPE, manifest
from service.provenance.reader import UnknownMediaError, read_report
from service.provenance.settings import SignerSettings
from service.provenance.trust import Trust
from service.provenance.verdict import judge
from worker.contract.logs import get_logger
from worker.contract.results import Credentials
from worker.contract.signing import SigningError, SigningRequest

_TIMESTAMP_PAUSE_S: Final = 60.0
"""A time-stamp server that failed is left alone for so long, so that not every job waits for it."""
_SETTINGS: Final[dict[str, Any]] = {
    # No picture of the person goes into the manifest.
    "builder": {"thumbnail": {"enabled": False}},
    # We read back ourselves, with the trust that those who verify have.
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
}
_log = get_logger(__name__)


@dataclass
class VideoSigner:
    """Signs with what the settings say.

    Args:
        settings: The deployment's.
    """

    settings: SignerSettings
    _silent_until: float = field(default=0.0, init=False)

    def prepare(self) -> None:
        """Make or check all keys, so that what is wrong is told at the start.

        Raises:
            AuthorityError, OSError: They cannot be used.
        """
        who = self._identity()
        if self.settings.signing_certificates is not None:
            self._authority.remember(who)
        if self.settings.timestamp_authorities is not None:
            self._authority.remember_clocks(self.settings.timestamp_authorities.read_text())

    def trust(self) -> Trust:
        """Whose signature is this installation's own."""
        return self._authority.trust()

    def sign(self, request: SigningRequest, source: BinaryIO, signed: BinaryIO) -> Credentials:
        """Sign an MP4.

        Args:
            request: What it says of itself.
            source: The finished file.
            signed: An empty file, open for reading and writing.

        Raises:
            SigningError: It cannot be signed.
        """
        try:
            who = self._identity()
            timestamp = self._sign(who, request, source, signed)
            signed.flush()
            signed.seek(0)
            found = judge(read_report(signed, MEDIA_TYPE, self.trust()))
        except (AuthorityError, OSError) as error:
            raise SigningError(str(error)) from error
        except UnknownMediaError as error:
            raise SigningError(f"what was signed cannot be read: {error}") from error
        except c2pa.C2paError as error:
            raise SigningError(f"the file cannot be signed: {error}") from error
        if found.verdict != "ours":
            told = ", ".join(found.problems) or found.summary
            raise SigningError(f"what was signed reads as {found.verdict}: {told}")
        return Credentials(
            manifest=found.manifest or "",
            certificate_sha256=who.certificate_sha256,
            timestamp=timestamp,
        )

    @property
    def _authority(self) -> Authority:
        return Authority(self.settings.folder)

    def _identity(self) -> Identity:
        certificates, key = self.settings.signing_certificates, self.settings.signing_key
        if certificates is None or key is None:
            return self._authority.own_identity()
        return identity(certificates.read_text(), read_key(key), certificates.name)

    def _sign(
        self, who: Identity, request: SigningRequest, source: BinaryIO, signed: BinaryIO
    ) -> Any:
        """Sign with a time stamp where one is wanted and to be had; what became of it."""
        url = self.settings.timestamp_url
        if url is None:
            _write_manifest(who, None, request, source, signed)
            return None
        if self.settings.timestamp_required or time.monotonic() >= self._silent_until:
            try:
                _write_manifest(who, url, request, source, signed)
                return "present"
            except c2pa.C2paError as error:
                if self.settings.timestamp_required:
                    raise SigningError(
                        f"the time stamp cannot be had: {error}", is_lasting=False
                    ) from error
                _log.warning("timestamp_missing", reason=str(error)[:200])
                self._silent_until = time.monotonic() + _TIMESTAMP_PAUSE_S
        source.seek(0)
        signed.seek(0)
        signed.truncate()
        _write_manifest(who, None, request, source, signed)
        return "missing"


def _write_manifest(
    who: Identity,
    timestamp_url: str | None,
    request: SigningRequest,
    source: BinaryIO,
    signed: BinaryIO,
) -> None:
    told = c2pa.C2paSignerInfo(who.algorithm, who.chain.encode(), who.key.encode(), timestamp_url)
    with (
        c2pa.Context(c2pa.Settings.from_dict(_SETTINGS), c2pa.Signer.from_info(told)) as context,
        c2pa.Builder(json.dumps(manifest(request)), context) as builder,
    ):
        builder.sign(MEDIA_TYPE, source, signed)
