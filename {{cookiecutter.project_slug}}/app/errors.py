"""Errors as RFC 9457 problem documents; raised by services, answered here."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import cast

import orjson
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ExceptionHandler

from app.websockets import close_with_error

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    location: list[str | int]
    message: str


class Problem(BaseModel):
    """RFC 9457; `type` is `about:blank` because title and status say it all."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    request_id: str | None = None
    errors: list[FieldError] | None = None


class AppError(HTTPException):
    """What services raise. An HTTPException, because FastAPI turns others raised while it reads
    the body into a 400."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(int(self.status), detail, dict(headers or {}))


class NotFoundError(AppError):
    status = HTTPStatus.NOT_FOUND


class ConflictError(AppError):
    status = HTTPStatus.CONFLICT


class UnauthorizedError(AppError):
    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class ForbiddenError(AppError):
    status = HTTPStatus.FORBIDDEN


class InsufficientScopeError(ForbiddenError):
    """RFC 6750, 3.1: the token is good, but not for this."""

    def __init__(self, scopes: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scopes}"'
        detail = f"The access token lacks the scope {scopes}."
        super().__init__(detail, {"WWW-Authenticate": challenge})


class ContentTooLargeError(AppError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class InvalidInputError(AppError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequestsError(AppError):
    """This client asks too often, as opposed to a service that is busy."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after_seconds)})


class UnavailableError(AppError):
    """Try again: the pool, the password queue or the database has no room at the moment."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after_seconds)})


def problem_response(
    request_id: str | None,
    status: int,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] | None = None,
) -> Response:
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        errors=list(errors) if errors else None,
    )
    body = orjson.dumps(problem.model_dump(exclude_none=True))
    return Response(body, status, headers, MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """For `responses=` of a route, so that the OpenAPI document tells which errors to expect."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def _request_id(request: Request) -> str | None:
    return cast("str | None", request.scope.get("state", {}).get("request_id"))


async def _answer_http_error(request: Request | WebSocket, error: Exception) -> Response | None:
    error = cast("HTTPException", error)
    if isinstance(request, WebSocket):
        await close_with_error(request, error)
        return None
    # Starlette's own errors repeat the status phrase as their detail.
    repeats_title = error.detail == HTTPStatus(error.status_code).phrase
    detail = None if repeats_title else error.detail
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_allowed_methods(request))}
    return problem_response(_request_id(request), error.status_code, detail, headers)


def _allowed_methods(request: Request) -> list[str]:
    # Starlette names those of the first route of the path only; RFC 9110 (10.2.1) wants all.
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    methods = {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.path and _path_regex(route.path).match(path)
        for method in route.methods or ()
    }
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


@cache
def _path_regex(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    errors = [
        # Never the input itself: it may be a password.
        FieldError(location=list(item["loc"]), message=item["msg"])
        for item in cast("RequestValidationError", error).errors()
    ]
    detail = "The request has fields that are missing or not valid."
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return problem_response(_request_id(request), status, detail, errors=errors)


async def _let_go(_websocket: WebSocket, _error: Exception) -> None:
    """A client that leaves is no error of the route that was talking to it."""


def add_error_handlers(app: FastAPI) -> None:
    # Starlette's type knows either requests or WebSockets.
    app.add_exception_handler(HTTPException, cast("ExceptionHandler", _answer_http_error))
    app.add_exception_handler(WebSocketDisconnect, cast("ExceptionHandler", _let_go))
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
