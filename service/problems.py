"""The one table from error code to HTTP status, and the one way to answer an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route

from service.schemas.problem import EXAMPLE_DETAILS, FieldError, Problem
from worker.contract.artifacts import ArtifactNotFoundError, StorageAwayError, StorageFullError
from worker.contract.errors import ErrorCode, IntakeError, ParamValue
from worker.contract.intake.decoder_orders import DecoderAwayError
from worker.contract.ledger_records import UnreadableRecordError
from worker.contract.logs import get_logger
from worker.contract.messages import JobFailure

_log = get_logger(__name__)

STATUS: dict[ErrorCode, HTTPStatus] = {
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.UNDECODABLE_MEDIA: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.FILE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.AUDIO_TOO_SHORT: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.AUDIO_TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.VIDEO_TOO_SHORT: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.VIDEO_TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.INVALID_OPTIONS: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.MEDIA_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.NO_FACE_FOUND: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.SEVERAL_FACES: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.FACE_TOO_SMALL: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.FACE_TURNED_AWAY: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.MOUTH_NOT_VISIBLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.HEADER_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ErrorCode.REQUEST_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.JOB_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.AVATAR_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.FILE_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.RESULT_NOT_AVAILABLE: HTTPStatus.CONFLICT,
    ErrorCode.RESULT_EXPIRED: HTTPStatus.GONE,
    ErrorCode.RANGE_NOT_SATISFIABLE: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    ErrorCode.JOB_TERMINAL: HTTPStatus.CONFLICT,
    ErrorCode.WEBHOOK_NOT_AVAILABLE: HTTPStatus.CONFLICT,
    ErrorCode.JOB_UNREADABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.IDEMPOTENCY_CONFLICT: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: HTTPStatus.CONFLICT,
    ErrorCode.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.CONCURRENCY_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.QUEUE_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.SPEECH_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.STORE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.INSUFFICIENT_STORAGE: HTTPStatus.INSUFFICIENT_STORAGE,
    ErrorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.MODEL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.OUT_OF_MEMORY: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.WORKER_LOST: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    ErrorCode.SIGNING_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}

PROBLEM_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = {
    "description": "Seconds to wait before the next request.",
    "schema": {"type": "integer"},
}

# What every route may answer: malformed parameters, who asks, how often, the state of the house.
_ANY_ROUTE: Final = (
    ErrorCode.INVALID_OPTIONS,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED,
    ErrorCode.STORE_UNAVAILABLE,
    ErrorCode.INTERNAL_ERROR,
)

# What the framework itself answers with a bare status.
_CODE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: ErrorCode.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ErrorCode.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.FILE_TOO_LARGE,
    # Raised while a body is read, where the framework lets no other exception through.
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.QUEUE_FULL,
}


class ProblemError(Exception):
    """Raised by a route to answer with a problem.

    Args:
        code: The stable word.
        detail: One sentence for a person.
        params: Figures for programs.
        errors: The fields of the request that are wrong.
        headers: Further response headers.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        params: Mapping[str, ParamValue] | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.params = dict(params or {})
        self.errors = list(errors)
        self.headers = dict(headers or {})


def make_problem(
    code: ErrorCode,
    detail: str,
    *,
    request_id: str | None,
    params: Mapping[str, ParamValue] | None = None,
    errors: Sequence[FieldError] = (),
) -> Problem:
    """The problem object of a code."""
    return Problem(
        type=f"urn:talkface:problem:{code.value}",
        title=code.value.replace("_", " ").capitalize(),
        status=STATUS[code].value,
        detail=detail,
        code=code,
        request_id=request_id,
        params=dict(params or {}),
        errors=list(errors),
    )


def problem_responses(*codes: str, only_these: bool = False) -> dict[int | str, dict[str, Any]]:
    """How a route's problems stand in the OpenAPI document: one example for each code.

    Args:
        codes: What the route itself may answer.
        only_these: Leave out what a route may answer that asks who calls, and Redis.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for code in (*map(ErrorCode, codes), *(() if only_these else _ANY_ROUTE)):
        status = STATUS[code]
        response = responses.setdefault(
            status.value,
            {
                "description": status.phrase,
                "content": {
                    PROBLEM_TYPE: {
                        "schema": {"$ref": "#/components/schemas/Problem"},
                        "examples": {},
                    }
                },
            },
        )
        if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            response["headers"] = {"Retry-After": RETRY_AFTER}
        example = make_problem(
            code, EXAMPLE_DETAILS[code], request_id="0b6ad9b1f3c54c0e8f64a1b9c8e2d7f0"
        )
        response["content"][PROBLEM_TYPE]["examples"][code.value] = {
            "value": example.model_dump(mode="json")
        }
    return responses


def problem_of_failure(failure: JobFailure, request_id: str) -> Problem:
    """The problem object of a job that failed."""
    return make_problem(
        failure.code,
        failure.detail,
        request_id=request_id,
        params=failure.params,
        errors=_errors_of(failure.field, failure.detail),
    )


def problem_response(
    code: ErrorCode,
    detail: str,
    *,
    params: Mapping[str, ParamValue] | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The response to the current request."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    problem = make_problem(code, detail, request_id=request_id, params=params, errors=errors)
    is_temporary = STATUS[code] in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    retry = {"Retry-After": "2"} if is_temporary else {}
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=STATUS[code],
        headers={"Cache-Control": "no-store", **retry, **(headers or {})},
        media_type=PROBLEM_TYPE,
    )


def install_problem_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer all that a route may raise with a problem; the middleware does so for the rest.

    Args:
        app: The application.
        routes: All of its own.
    """

    @app.exception_handler(ProblemError)
    async def on_problem(_request: Request, error: ProblemError) -> JSONResponse:
        return problem_response(
            error.code,
            error.detail,
            params=error.params,
            errors=error.errors,
            headers=error.headers,
        )

    @app.exception_handler(IntakeError)
    async def on_intake(_request: Request, error: IntakeError) -> JSONResponse:
        errors = _errors_of(error.field, error.detail)
        return problem_response(error.code, error.detail, params=error.params, errors=errors)

    @app.exception_handler(RequestValidationError)
    async def on_validation(_request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_field_error(item) for item in error.errors()]
        told = "; ".join(f"{item.field}: {item.message}" for item in errors)
        return problem_response(
            ErrorCode.INVALID_OPTIONS, f"The request is not valid: {told}.", errors=errors
        )

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODE_OF_STATUS.get(HTTPStatus(error.status_code), ErrorCode.MALFORMED_REQUEST)
        detail = {
            ErrorCode.NOT_FOUND: f"Nothing is served at {request.url.path}.",
            ErrorCode.METHOD_NOT_ALLOWED: f"{request.method} is not possible here.",
        }.get(code, str(error.detail))
        headers = dict(error.headers or {})
        if code is ErrorCode.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_allowed_methods(request, routes))
        return problem_response(code, detail, headers=headers)

    @app.exception_handler(RedisError)
    async def on_redis(_request: Request, error: RedisError) -> JSONResponse:
        # Not the message of the error: it may repeat the URL with its password.
        _log.warning("store_unavailable", kind=type(error).__name__)
        return problem_response(
            ErrorCode.STORE_UNAVAILABLE, "The job store cannot be reached; try again shortly."
        )

    @app.exception_handler(UnreadableRecordError)
    async def on_unreadable(_request: Request, error: UnreadableRecordError) -> JSONResponse:
        _log.error("job_unreadable", job_id=error.job_id, reason=error.reason)
        return problem_response(
            ErrorCode.JOB_UNREADABLE,
            "This server cannot read the job; another release may have written it. Ask again "
            "later, or delete the job.",
            headers={"Retry-After": "30"},
        )

    @app.exception_handler(DecoderAwayError)
    async def on_decoder(_request: Request, error: DecoderAwayError) -> JSONResponse:
        _log.error("decoder_away", reason=str(error))
        return problem_response(
            ErrorCode.NOT_READY, "Uploads cannot be decoded for the moment; try again shortly."
        )

    @app.exception_handler(StorageFullError)
    async def on_full(_request: Request, _error: StorageFullError) -> JSONResponse:
        _log.error("storage_full")
        return problem_response(
            ErrorCode.INSUFFICIENT_STORAGE, "The server's storage is full; try again later."
        )

    @app.exception_handler(StorageAwayError)
    async def on_storage(_request: Request, error: StorageAwayError) -> JSONResponse:
        _log.warning("storage_unavailable", reason=str(error))
        return problem_response(
            ErrorCode.STORE_UNAVAILABLE, "The file storage cannot be reached; try again shortly."
        )

    @app.exception_handler(ArtifactNotFoundError)
    async def on_gone(_request: Request, _error: ArtifactNotFoundError) -> JSONResponse:
        return problem_response(
            ErrorCode.RESULT_NOT_AVAILABLE, "The video's file is no longer there."
        )


def _errors_of(field: str | None, detail: str) -> list[FieldError]:
    return [] if field is None else [FieldError(field=field, message=detail)]


def _allowed_methods(request: Request, routes: Sequence[BaseRoute]) -> list[str]:
    """All methods of an address; the framework tells those of its first route only."""
    methods = {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _field_error(item: Mapping[str, Any]) -> FieldError:
    # The first part of the place is "body", "query" or "path": of no use to who filled in a form.
    # Nor is the number of a part that may be sent several times.
    place = [part for part in item["loc"] if isinstance(part, str)]
    message = str(item["msg"])
    if "UploadFile" in message:
        message = "Send this part as a file, with a file name"
    return FieldError(field=".".join(place[1:]) or place[0], message=message)
