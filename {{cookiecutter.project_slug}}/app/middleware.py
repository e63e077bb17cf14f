"""Pure ASGI middleware around the whole application.

BaseHTTPMiddleware costs more than a database read (638 us for three of them), so none is used.
"""

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ContentTooLargeError, problem_response
from app.metrics import (
    DEADLINES_MISSED,
    SQL_SECONDS,
    SQL_STATEMENTS,
    RequestRecord,
    current_record,
)
from server.metrics import record_request, route_of

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# 32 hex digits is what nginx's $request_id has; UUIDs and most other makers' ids fit too.
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{16,64}", re.ASCII)
# Probes every few seconds say nothing and drown the rest.
_UNLOGGED_PATHS = frozenset({"/livez", "/readyz"})


class RequestMiddleware:
    """Gives every request an id and writes its one access line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = time.perf_counter()
        request_id = _request_id(scope)
        # The body is bytes on the wire; the id reaches handlers and SQL through the state.
        state = scope.setdefault("state", {})
        # A stream must know that nobody reads it.
        state.update(request_id=request_id, is_head=scope["method"] == "HEAD")
        client = scope.get("client")
        structlog.contextvars.bind_contextvars(
            request_id=request_id, client=client[0] if client else None
        )
        record = RequestRecord()
        current_record.set(record)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                # What may be kept, a route says; most answers are for one person alone.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        routed = _as_get(scope)
        try:
            await self.app(routed, receive, send_with_id)
        finally:
            seconds, route = time.perf_counter() - started_at, route_of(routed)
            _count(scope["method"], route, status, seconds, record)
            if scope["path"] not in _UNLOGGED_PATHS:
                _log_access(scope, route, status, seconds, record)
            structlog.contextvars.clear_contextvars()


class BodyLimitMiddleware:
    """The second limit behind nginx's; answers 413 with a problem document.

    FastAPI's own `max_body_size` answers plain text and raises through middleware.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.detail = f"The body may have {max_body_bytes} bytes at most."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _content_length(scope) > self.max_body_bytes:
            response = problem_response(scope, 413, self.detail)
            await response(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise ContentTooLargeError(self.detail)
            return message

        await self.app(scope, receive_counted, send)


def _as_get(scope: Scope) -> Scope:
    # FastAPI's routes know GET only; of an answer to HEAD, the server sends no body.
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def _request_id(scope: Scope) -> str:
    sent = Headers(scope=scope).get("x-request-id")
    # Anything else could forge log lines.
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    return uuid.uuid4().hex


def _content_length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isdecimal() else 0


def _count(method: str, route: str, status: int, seconds: float, record: RequestRecord) -> None:
    record_request(method, route, status, seconds)
    if record.sql_count:
        SQL_SECONDS.add(record.sql_seconds, route)
        SQL_STATEMENTS.add(record.sql_count, route)


def _log_access(
    scope: Scope, route: str, status: int, seconds: float, record: RequestRecord
) -> None:
    log.info(
        "request",
        method=scope["method"],
        route=route,
        path=scope["path"],
        status=status,
        duration_ms=round(seconds * 1000, 2),
        pool_wait_ms=round(record.pool_wait_seconds * 1000, 2),
        sql_ms=round(record.sql_seconds * 1000, 2),
        sql_count=record.sql_count,
        **record.account,
    )


class FailureMiddleware:
    """Answers where no route did: 504 when it is late, 500 when it failed.

    The deadline counts until the response starts, so streams may take as long as they like.
    What is cancelled rolls back and stops its statement in PostgreSQL. Only when the deadline
    passes while PostgreSQL commits, a 504 may be for something that is done.
    Gunicorn's `timeout` does not do this: it watches the event loop, not requests.
    """

    def __init__(self, app: ASGIApp, deadline_seconds: float) -> None:
        self.app = app
        self.deadline_seconds = deadline_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_lift(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                # Once it has passed it cannot be moved.
                if not deadline.expired():
                    deadline.reschedule(None)
            await send(message)

        deadline = asyncio.timeout(self.deadline_seconds)
        try:
            async with deadline:
                await self.app(scope, receive, send_and_lift)
        except Exception as error:
            is_late = isinstance(error, TimeoutError) and deadline.expired()
            if is_late:
                DEADLINES_MISSED.add()
            if started or not is_late:
                log.exception("request failed", method=scope["method"], path=scope["path"])
            if started:
                raise  # Half an answer is sent: only closing the connection tells the client.
            await self._problem(scope, is_late)(scope, receive, send)

    def _problem(self, scope: Scope, is_late: bool) -> Response:
        if is_late:
            detail = f"The request was not answered within {self.deadline_seconds:g} s."
            return problem_response(scope, 504, detail)
        return problem_response(scope, 500)
