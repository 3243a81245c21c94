"""The child process that reads the credentials of one stranger's file.

    python -m service.provenance.reading_child <request as JSON>

It runs with bounds on memory, time and files (`worker.contract.intake.limited_child`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from service.provenance.reader import Report, UnknownMediaError, read_report
from service.provenance.trust import Trust


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output: the report as JSON."""
    request: dict[str, Any] = json.loads(arguments[0])
    source = request.pop("source")
    trust = Trust(**{**request, "other_serials": tuple(request["other_serials"])})
    with open(source, "rb") as stream:
        try:
            report: Report = read_report(stream, None, trust)
        except UnknownMediaError:
            report = {"state": "unknown"}
    sys.stdout.write(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
