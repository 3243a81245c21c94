"""The library's reader with our settings: nothing is fetched, and only those count whom we say.

Imports next to nothing, because a child process does it for each file.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO, Final

import c2pa

from service.provenance.trust import Trust

# The description box of a manifest store, and the identifier of C2PA's box in an MP4: where one of
# them is, there are credentials, whatever became of the rest.
_MARKS: Final = (
    b"jumdc2pa\x00\x11\x00\x10",
    bytes.fromhex("d8fec3d61b0e483c92975828877ec481"),
)
TRUSTED_TIME: Final = "timeStamp.trusted"
_PIECE_BYTES: Final = 2**20
_MOST_ENTRIES: Final = 32
_MOST_CHARACTERS: Final = 200

Report = dict[str, Any]
"""What was found: `state` (`none`, `damaged` or `read`), and what `verdict.judge` needs of the rest."""


class UnknownMediaError(Exception):
    """The bytes are no file that can have credentials."""


def read_report(stream: BinaryIO, media_type: str | None, trust: Trust) -> Report:
    """What a file says of itself. Strangers' files go through `reading`, not straight here.

    Args:
        stream: The file, at its beginning.
        media_type: What it is, or None to find out.
        trust: Whose signature is the installation's own.

    Raises:
        UnknownMediaError: It is nothing that the library knows, and has no mark of credentials.
    """
    report = _read(stream, media_type, trust.anchors)
    is_unknown = "signingCredential.untrusted" in report.get("failures", ())
    if is_unknown and report["serial"] in trust.other_serials:
        # It may be the operator's own; only its authority can say that the number is no imitation.
        stream.seek(0)
        report = _read(stream, media_type, trust.other_anchors)
    if trust.clock_anchors and report.get("signature", {}).get("time") is not None:
        # Asked by itself: for the library an anchor is an anchor, and what these authorities issue to
        # others must not make a signer ours.
        stream.seek(0)
        of_clocks = _read(stream, media_type, trust.clock_anchors)
        if TRUSTED_TIME in of_clocks.get("successes", ()):
            report["successes"] = sorted({*report["successes"], TRUSTED_TIME})
    return report


def _read(stream: BinaryIO, media_type: str | None, anchors: str) -> Report:
    try:
        with c2pa.Context(c2pa.Settings.from_dict(_settings(anchors))) as context:
            reader = c2pa.Reader.try_create(media_type, stream, context=context)
            if reader is None:
                return {"state": "none"}
            with reader:
                report: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        if not _has_mark(stream):
            raise UnknownMediaError(str(error)) from error
        kind = type(error).__name__.strip("_").removeprefix("C2pa")
        return {"state": "damaged", "problem": f"unreadable.{kind}"}
    try:
        return _extract(report)
    except (KeyError, TypeError, ValueError, AttributeError):
        # A manifest of somebody else's in a shape that the library lets pass.
        return {"state": "damaged", "problem": "unreadable.Manifest"}


def _extract(report: dict[str, Any]) -> Report:
    """The few facts of a report that a verdict needs, cut to a size."""
    manifest: dict[str, Any] = report["manifests"][report["active_manifest"]]
    results: dict[str, Any] = report.get("validation_results", {}).get("activeManifest", {})
    signature: dict[str, Any] = manifest.get("signature_info", {})
    facts = [
        (str(one["label"]), one["data"])
        for one in manifest.get("assertions", [])
        if isinstance(one.get("data"), dict)
    ]
    actions = [
        action
        for label, data in facts
        if label.startswith("c2pa.actions")
        for action in data.get("actions", [])
    ]
    return {
        "state": "read",
        "manifest": _text(report["active_manifest"]),
        "serial": _text(signature.get("cert_serial_number")),
        "failures": sorted({str(one["code"]) for one in results.get("failure", [])}),
        "successes": sorted({str(one["code"]) for one in results.get("success", [])}),
        "signature": {
            name: _text(signature.get(name)) for name in ("common_name", "issuer", "time")
        },
        "software": [
            {"name": _text(one.get("name")), "version": _text(one.get("version"))}
            for one in manifest.get("claim_generator_info", [])[:_MOST_ENTRIES]
        ],
        "actions": [
            {name: _text(one.get(name)) for name in ("when", "digitalSourceType")}
            for one in actions[:_MOST_ENTRIES]
        ],
        "consents": [
            _text(data.get("consent")) for label, data in facts if label == "org.talkface.consent"
        ],
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:_MOST_CHARACTERS]


def _settings(anchors: str) -> dict[str, Any]:
    return {
        "verify": {
            "verify_trust": True,
            "verify_timestamp_trust": True,
            # A stranger's file must not make us call an address that it names.
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        # An empty text is no list of certificates for the library.
        "trust": {"trust_anchors": anchors} if anchors else {},
    }


def _has_mark(stream: BinaryIO) -> bool:
    stream.seek(0)
    tail = b""
    while piece := stream.read(_PIECE_BYTES):
        window = tail + piece
        if any(mark in window for mark in _MARKS):
            return True
        tail = window[-32:]
    return False
