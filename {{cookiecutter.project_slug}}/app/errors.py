"""Errors as RFC 9457 problem documents; raised by services, answered here."""

import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import cast

import orjson
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ExceptionHandler, Scope

from app.websockets import close_with_error

MEDIA_TYPE = "application/problem+json"
# Clients of OAuth 2 talk to these, whatever ROOT_PATH is, and take an answer without `error` for a
# token. https://www.rfc-editor.org/rfc/rfc6749#section-5.2
_OAUTH_PATH = re.compile(r"/api/v1/auth/(token|revoke)\Z")
# The code of a server that is busy is that of section 4.1.2.1: there is none in 5.2.
_OAUTH_CODES = {
    401: "invalid_grant",
    429: "temporarily_unavailable",
    503: "temporarily_unavailable",
}


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
    error: str | None = Field(None, description="Only where OAuth 2 wants it: RFC 6749, 5.2.")
    error_description: str | None = None


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


class GoneError(AppError):
    status = HTTPStatus.GONE


class ContentTooLargeError(AppError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class InvalidInputError(AppError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class OAuthError(AppError):
    """What a client of OAuth 2 has done wrong, with a code of RFC 6749, 5.2."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class TryAgainError(AppError):
    """Not now: the answer says in how many seconds."""

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(retry_after_seconds)})
        self.retry_after_seconds = retry_after_seconds


class TooManyRequestsError(TryAgainError):
    """This client asks too often, as opposed to a service that is busy."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class UnavailableError(TryAgainError):
    """The pool, the password queue or the database has no room at the moment."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


def problem_response(
    scope: Scope,
    status: int,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> Response:
    if _OAUTH_PATH.search(scope["path"]):
        status, members = _as_oauth(status, detail, members)
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=scope.get("state", {}).get("request_id"),
        **members,
    )
    body = orjson.dumps(problem.model_dump(exclude_none=True))
    return Response(body, status, headers, MEDIA_TYPE)


def _as_oauth(
    status: int, detail: str | None, members: Mapping[str, object]
) -> tuple[int, dict[str, object]]:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = int(HTTPStatus.BAD_REQUEST)
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    code = _OAUTH_CODES.get(status, "server_error" if is_ours else "invalid_request")
    description = detail or HTTPStatus(status).phrase
    return status, {"error": code, "error_description": description, **members}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """For `responses=` of a route, so that the OpenAPI document tells which errors to expect."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


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
    members = {"error": error.code} if isinstance(error, OAuthError) else {}
    return problem_response(request.scope, error.status_code, detail, headers, **members)


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
    return problem_response(request.scope, status, detail, errors=errors)


async def _let_go(_websocket: WebSocket, _error: Exception) -> None:
    """A client that leaves is no error of the route that was talking to it."""


def add_error_handlers(app: FastAPI) -> None:
    # Starlette's type knows either requests or WebSockets.
    app.add_exception_handler(HTTPException, cast("ExceptionHandler", _answer_http_error))
    app.add_exception_handler(WebSocketDisconnect, cast("ExceptionHandler", _let_go))
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
