"""What was found in a file, as one of four words and in plain sentences.

    ours             signed by this installation, and nothing was changed since
    unknown_signer   the same, but by somebody whom this installation does not know
    tampered         it has credentials, and they do not fit the file
    none             it has none: never had, or they were removed

A name in a certificate proves nothing: anyone can make an authority called talkface. So a name never
stands without the word "unknown" unless the signature is the installation's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.provenance.reader import TRUSTED_TIME, Report
from service.provenance.watermark import Mark

Verdict = Literal["ours", "unknown_signer", "tampered", "none"]
# What is wrong with a signer alone says nothing about the file.
_ABOUT_SIGNER: Final = ("signingCredential.", "timeStamp.untrusted", "timeStamp.outsideValidity")
_UNUSUAL: Final = (
    "signingCredential.expired",
    "signingCredential.invalid",
    "signingCredential.revoked",
)

_NONE: Final = (
    "The file has no Content Credentials. That says nothing about how it was made: most sites and "
    "programs remove them."
)
_DAMAGED: Final = (
    "The file has Content Credentials, but they are damaged. It is not as it was signed."
)

_MARKED: Final = (
    "The watermark of this installation is in its pictures (chance of an error below one in a "
    "million). That is a hint and no proof: it does not tell what was changed since, and who has many "
    "marked videos can copy it."
)


class Software(BaseModel):
    """A program, as the manifest names it."""

    name: str
    version: str | None = None


class Signer(BaseModel):
    """Who signed, as the certificate says.

    Args:
        name: The certificate's common name.
        organization: Its organization.
        is_known: Whether it is this installation; if not, the name is only a claim.
    """

    name: str | None
    organization: str | None
    is_known: bool


class TimeStamp(BaseModel):
    """When an independent server saw the signature, where one was asked."""

    state: Literal["missing", "untrusted", "trusted"]
    time: str | None = None


class Verification(BaseModel):
    """What a file says of itself, and what that is worth."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "verdict": "ours",
                    "manifest": "urn:c2pa:6e038cd6-fd55-4911-84a0-4455c30bfe2b",
                    "summary": "This installation made it, and nothing was changed since.",
                    "created_at": "2026-11-29T12:00:00Z",
                    "timestamp": {"state": "missing", "time": None},
                    "signer": {
                        "name": "talkface",
                        "organization": "talkface (self-signed)",
                        "is_known": True,
                    },
                    "software": [{"name": "talkface", "version": "0.3.0"}],
                    "source_types": ["trainedAlgorithmicMedia"],
                    "consent": None,
                    "watermark": "found",
                    "watermark_job": "0190c2f4a7b1",
                    "problems": [],
                }
            ]
        }
    )

    verdict: Verdict
    manifest: Annotated[str | None, Field(description="Name of the manifest, unique.")] = None
    summary: Annotated[str, Field(description="The same in plain words.")]
    created_at: Annotated[
        str | None, Field(description="When it was made, as whoever signed says.")
    ] = None
    timestamp: Annotated[
        TimeStamp | None, Field(description="What an independent server says.")
    ] = None
    signer: Signer | None = None
    software: list[Software] = []
    source_types: Annotated[
        list[str],
        Field(
            description="How the pictures came about, in IPTC's terms; `trainedAlgorithmicMedia` and "
            "`compositeWithTrainedAlgorithmicMedia` mean AI."
        ),
    ] = []
    consent: Annotated[
        Literal["stated"] | None,
        Field(description="`stated`: whoever had it made said that the person agreed."),
    ] = None
    watermark: Annotated[
        Literal["not_looked_for", "not_found", "found"],
        Field(
            description="Whether the watermark of this installation is in its pictures. It outlives "
            "re-encoding, and is no proof: `ours` is said for a signature alone."
        ),
    ] = "not_looked_for"
    watermark_job: Annotated[
        str | None,
        Field(description="What the watermark says: the first twelve digits of the job's id."),
    ] = None
    problems: Annotated[list[str], Field(description="What does not fit, in C2PA's codes.")] = []


def with_mark(found: Verification, mark: Mark | None) -> Verification:
    """The same with what is known of the watermark; the verdict stays."""
    if mark is None:
        return found
    if not mark.found:
        return found.model_copy(update={"watermark": "not_found"})
    told = {"summary": f"{found.summary} {_MARKED}"} if found.verdict != "ours" else {}
    return found.model_copy(update={**told, "watermark": "found", "watermark_job": mark.job})


def judge(report: Report) -> Verification:
    """The verdict on what was read in a file.

    Args:
        report: From `reader.read_report`.
    """
    if report["state"] == "none":
        return Verification(verdict="none", summary=_NONE)
    if report["state"] == "damaged":
        return Verification(verdict="tampered", summary=_DAMAGED, problems=[str(report["problem"])])
    failures: list[str] = report["failures"]
    broken = [code for code in failures if not code.startswith(_ABOUT_SIGNER)]
    is_ours = "signingCredential.trusted" in report["successes"] and not failures
    verdict: Verdict = "tampered" if broken else "ours" if is_ours else "unknown_signer"
    signature = report["signature"]
    signer = Signer(
        name=signature["common_name"], organization=signature["issuer"], is_known=verdict == "ours"
    )
    source_types = [one["digitalSourceType"] for one in report["actions"]]
    return Verification(
        verdict=verdict,
        manifest=report["manifest"],
        summary=_summary(verdict, signer, failures),
        created_at=next((one["when"] for one in report["actions"] if one["when"]), None),
        timestamp=_timestamp(signature["time"], report["successes"]),
        signer=signer,
        software=[Software(**one) for one in report["software"] if one["name"]],
        source_types=sorted({one.rsplit("/", 1)[-1] for one in source_types if one}),
        consent="stated" if "stated" in report["consents"] else None,
        problems=broken or [code for code in failures if code in _UNUSUAL],
    )


def _summary(verdict: Verdict, signer: Signer, failures: Sequence[str]) -> str:
    if verdict == "tampered":
        return (
            "The file was changed after it was signed, or its signature was moved here from another "
            "file. What it says of itself cannot be believed."
        )
    if verdict == "ours":
        return "This installation made it, and nothing was changed since."
    told = (
        "Nothing was changed since it was signed, but the signer is unknown here"
        f" and calls itself “{signer.name or signer.organization or 'nothing'}”, which proves nothing."
    )
    if "signingCredential.expired" in failures:
        told += " Its certificate has expired."
    elif "signingCredential.invalid" in failures:
        told += " Its certificate does not meet the standard."
    return told


def _timestamp(time: str | None, successes: Sequence[str]) -> TimeStamp:
    if time is None:
        return TimeStamp(state="missing")
    return TimeStamp(state="trusted" if TRUSTED_TIME in successes else "untrusted", time=time)
