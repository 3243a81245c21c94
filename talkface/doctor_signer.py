"""What `talkface doctor` says of the signer."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from talkface.findings import Finding, State
from worker.contract.signing import SignerClient, socket_path

_REMEDY = (
    "Start it: python -m service.provenance. `talkface up` and compose do, and again when it dies."
)


def check_signer(data_dir: Path) -> Finding:
    """Whether somebody signs here, where a deployment says that videos are signed."""
    if not _is_signing():
        return Finding(
            "signer", State.OPTIONAL, "TALKFACE_CONTENT_CREDENTIALS=false: videos are not signed"
        )
    chosen = os.environ.get("TALKFACE_SIGNER_SOCKET")
    path = socket_path(data_dir, Path(chosen) if chosen else None)
    fault = SignerClient(path).fault()
    if fault is None:
        return Finding("signer", State.OK, f"answers at {path}")
    if chosen or path.exists():
        found = f"no signer answers at {path} ({fault}); finished videos wait for one"
        return Finding("signer", State.MISSING, found, _REMEDY)
    return Finding("signer", State.OPTIONAL, f"none runs for {data_dir}", _REMEDY)


def _is_signing() -> bool:
    value = os.environ.get("TALKFACE_CONTENT_CREDENTIALS", "true")
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return True
