"""What stands behind the question mark: a parameter that nobody reads is a mistake that would go unseen."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request


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
