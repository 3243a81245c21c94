"""Settings that several processes of one deployment read, and have to read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from worker.contract.intake.sandbox import SandboxMode
from worker.contract.results import LabelName

DecoderSocket = Annotated[
    Path | None,
    Field(description="Socket of the decoder server that decodes uploads; none: done here."),
]
Sandbox = Annotated[
    SandboxMode,
    Field(
        description="`require`: decode nothing where the kernel cannot confine decoders; `warn`."
    ),
]
DefaultLabel = Annotated[
    LabelName,
    Field(description="Label of videos whose caller chose none: off, intro (3 s) or always."),
]
ContentCredentials = Annotated[
    bool, Field(description="Every video is signed before it is published (C2PA).")
]
WatermarkKeyFile = Annotated[
    Path | None,
    Field(description="The watermark's key, mode 0600; unset: <data_dir>/secrets/watermark.key."),
]
SignerSocket = Annotated[
    Path | None,
    Field(description="Unix socket of the signer; unset: <data_dir>/signer/signer.sock."),
]
Streams = Annotated[
    bool, Field(description="Videos can be watched while they are drawn: on or off.")
]
