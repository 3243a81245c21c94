"""Answers to requests that never reach the application: the bytes of a problem document."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from service.problems import PROBLEM_TYPE, STATUS, make_problem
from worker.contract.errors import ErrorCode, ParamValue


def raw_problem(
    code: ErrorCode,
    detail: str,
    *,
    params: Mapping[str, ParamValue] | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A whole HTTP/1.1 response, after which the connection is closed.

    Args:
        code: The stable word.
        detail: One sentence for a person.
        params: Figures for programs.
        headers: What the server puts at the beginning of every response, such as the date.
    """
    # The request's own id was perhaps never received.
    request_id = uuid.uuid4().hex
    problem = make_problem(code, detail, request_id=request_id, params=params)
    body = problem.model_dump_json().encode()
    status = STATUS[code]
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}".encode(),
        *(name + b": " + value for name, value in headers),
        f"content-type: {PROBLEM_TYPE}".encode(),
        f"content-length: {len(body)}".encode(),
        b"cache-control: no-store",
        f"x-request-id: {request_id}".encode(),
        b"connection: close",
    ]
    if status == 503:
        lines.append(b"retry-after: 2")
    return b"\r\n".join([*lines, b"", body])
