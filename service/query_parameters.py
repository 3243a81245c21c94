"""What stands behind the question mark: a parameter that nobody reads is a mistake that would go unseen."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.requests import Request

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _check_moment(value: object) -> object:
    """A number would be taken for seconds since 1970, which nobody means in an address."""
    if not _RFC_3339.fullmatch(str(value)):
        raise ValueError("expected a time with its zone, such as 2026-11-29T12:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_check_moment)]


def check_known_parameters(request: Request) -> None:
    """Return if the route reads every parameter that was sent.

    Raises:
        RequestValidationError: It does not.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = sorted(field.alias for field in route.dependant.query_params)
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        message = f"there is no such parameter; expected {', '.join(known)}"
        raise RequestValidationError([{"loc": ("query", name), "msg": message} for name in unknown])
