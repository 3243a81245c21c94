"""Whether the signer of this deployment answers: `python -m service.provenance.health`."""

from __future__ import annotations

import sys

from service.provenance.settings import SignerSettings
from worker.contract.signing import SignerClient


def main() -> int:
    """0 if it answers."""
    fault = SignerClient(SignerSettings().socket_path).fault()
    if fault is not None:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
