"""`talkface verify`: what a file says of itself, and what that is worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from service.provenance.authority import Authority
from service.provenance.reading import verify_file
from service.provenance.trust import Trust
from service.provenance.verdict import Verdict, Verification
from talkface.exits import EXIT_STATUS, Exit, fail
from talkface.private_signer import signing_folder, user_folder, watermark_key_path
from worker.contract.errors import IntakeError
from worker.contract.key_file import SecretFileError, read_key

STATUS: Final[dict[Verdict, int]] = {
    "ours": 0,
    "unknown_signer": Exit.UNKNOWN_SIGNER,
    "tampered": Exit.TAMPERED,
    "none": Exit.NO_CREDENTIALS,
}


def verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Anybody's file.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="TALKFACE_DATA_DIR", help="Data folder of a service whose videos are ours, too."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say whether a file is ours, changed, somebody else's, or without Content Credentials.

    The exit status is 0 if it is ours, 80 if the signer is unknown, 81 if it was changed, 82 if it
    has none. What this machine's user made by `talkface generate` is ours in any case.
    """
    try:
        found = verify_file(
            file,
            _trust(data_dir),
            limit_bytes=sys.maxsize,
            watermark_keys=_watermark_keys(data_dir),
        )
    except SecretFileError as error:
        fail(Exit.USAGE, str(error))
    except IntakeError as error:
        typer.echo(f"talkface: {error.detail} [{error.code.value}]", err=True)
        raise typer.Exit(EXIT_STATUS[error.code]) from None
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        typer.echo("\n".join([f"{file}: {found.verdict}", *_lines(found)]))
    raise typer.Exit(STATUS[found.verdict])


def _trust(data_dir: Path | None) -> Trust:
    folders = {signing_folder(data_dir).resolve(), user_folder().resolve()}
    return sum((Authority(folder).trust() for folder in sorted(folders)), Trust())


def _watermark_keys(data_dir: Path | None) -> list[bytes]:
    """Of the service's folder and of this user, where they have one."""
    paths = {
        watermark_key_path(data_dir).resolve(),
        user_folder().with_name("watermark.key").resolve(),
    }
    return [read_key(path) for path in sorted(paths) if path.exists()]


def _lines(found: Verification) -> list[str]:
    told = [found.summary]
    if found.software:
        names = ", ".join(f"{one.name} {one.version or ''}".strip() for one in found.software)
        told.append(f"Made with {names}{f' at {found.created_at}' if found.created_at else ''}.")
    if any("lgorithmicMedia" in kind for kind in found.source_types):
        told.append("It says that its pictures were made or changed by an algorithm.")
    if found.timestamp is not None and found.timestamp.time is not None:
        told.append(
            f"A time-stamp server ({found.timestamp.state}) saw it at {found.timestamp.time}."
        )
    if found.consent is not None:
        told.append("Whoever had it made stated that the person agreed.")
    if found.verdict in ("tampered", "unknown_signer") and len(told) > 1:
        told.insert(1, "It says, and nobody vouches for it:")
    if found.problems:
        told.append(f"What does not fit: {', '.join(found.problems)}.")
    return [*told, *_watermark_lines(found)]


def _watermark_lines(found: Verification) -> list[str]:
    if found.watermark == "not_looked_for":
        return ["No watermark was looked for."]
    if found.watermark == "not_found":
        return ["No watermark of this installation was found in it."]
    # In the summary where that says nothing better.
    told = (
        ["The watermark of this installation is in its pictures."]
        if found.verdict == "ours"
        else []
    )
    if found.watermark_job is not None:
        told.append(f"The watermark says: job {found.watermark_job}....")
    return told
