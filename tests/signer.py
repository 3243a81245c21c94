"""A signer for tests: one process for all tests of a test process, with keys of its own."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from service.provenance.trust import Trust
from worker.contract.signing import SignerClient, SignerGoneError


@dataclass
class SignerProcess:
    """`python -m service.provenance` with everything in one folder."""

    folder: Path
    settings: dict[str, object] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "signer.sock"

    @property
    def client(self) -> SignerClient:
        return SignerClient(self.socket)

    @property
    def trust(self) -> Trust:
        told = self.client.trust()
        return Trust(told.anchors, told.other_anchors, told.other_serials)

    def start(self) -> None:
        """Start it and wait until it answers."""
        variables = {
            "data_dir": self.folder,
            "signing_dir": self.folder / "keys",
            "signer_socket": self.socket,
            "log_level": "WARNING",
            **self.settings,
        }
        environment = {key: value for key, value in os.environ.items() if "TALKFACE" not in key}
        environment |= {f"TALKFACE_{key.upper()}": str(value) for key, value in variables.items()}
        command = [sys.executable, "-m", "service.provenance"]
        self._process = subprocess.Popen(command, env=environment)
        for _ in range(1200):
            try:
                self.client.trust()
            except SignerGoneError:
                assert self._process.poll() is None, "the signer ended at its start"
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the signer does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@functools.cache
def shared_signer() -> SignerProcess:
    """The signer of this test process; ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="tf-signer-"))
    signer = SignerProcess(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(signer.kill)
    signer.start()
    return signer
