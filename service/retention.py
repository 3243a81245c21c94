"""How long a job's result is kept after its end: as long as asked for, within what is allowed."""

from __future__ import annotations

from service.problems import ProblemError
from service.schemas.problem import FieldError
from service.security import Principal
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode


def retention_of(
    principal: Principal, asked_s: float | None, settings: ServiceSettings
) -> float | None:
    """Seconds from a job's end until its result is erased; None = it is never erased.

    Args:
        principal: Who asks; a key may have a retention of its own.
        asked_s: What the request asks for, in seconds; None = as long as allowed.
        settings: The deployment's.

    Raises:
        ProblemError: invalid_options: longer than the key or the deployment allows.
    """
    is_own = principal.retention_s is not None
    most_s = principal.retention_s if principal.retention_s is not None else settings.retention_s
    if asked_s is None:
        return most_s or None
    if most_s and asked_s > most_s:
        whose = "with this key" if is_own else "here"
        told = f"{asked_s:g} s were asked for; results are kept for at most {most_s:g} s {whose}"
        raise ProblemError(
            ErrorCode.INVALID_OPTIONS,
            f"The request is not valid: retention_s: {told}. Ask for less, or leave it out.",
            params={"retention_s": asked_s, "max_retention_s": most_s},
            errors=[FieldError(field="retention_s", message=told)],
        )
    return float(asked_s)
