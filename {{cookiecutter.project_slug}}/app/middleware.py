"""Pure ASGI middleware around the whole application.

BaseHTTPMiddleware costs more than a database read (638 us for three of them), so none is used.
"""

import asyncio
import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ContentTooLargeError, problem_response
from app.metrics import (
    DEADLINES_MISSED,
    PROBES,
    SQL_SECONDS,
    SQL_STATEMENTS,
    RequestRecord,
    current_record,
)
from server.metrics import record_request, route_of

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# 32 hex digits is what nginx's $request_id has; UUIDs and most other makers' ids fit too.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{16,64}")
# To the pattern of a route, which ends in $, /livez and a line's end are /livez.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
# Of an answer, of a WebSocket, of an answer instead of one.
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class RequestMiddleware:
    """Gives every request an id and writes its one access line; a WebSocket is one request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        record = _begin(scope)
        routed = _as_get(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                _begin_answer(message, record, scope["state"]["request_id"])
                if record.is_stream:
                    # How long it lasts says nothing of the service.
                    seconds = time.perf_counter() - began
                    record_request(record.method, route_of(routed), record.status, seconds)
            await send(message)

        try:
            await self.app(routed, receive, send_with_id)
        finally:
            seconds, route = time.perf_counter() - began, route_of(routed)
            if not record.is_stream:
                record_request(record.method, route, record.status, seconds)
            if record.sql_count:
                SQL_SECONDS.add(record.sql_seconds, route)
                SQL_STATEMENTS.add(record.sql_count, route)
            if scope["path"] not in PROBES:
                _log_access(scope["path"], route, record, seconds)
        # Not after an exception: Uvicorn still has to tell of it.
        structlog.contextvars.clear_contextvars()


class LimitMiddleware:
    """The second limit behind nginx's, of paths and bodies; answers with a problem document.

    FastAPI's own `max_body_size` answers plain text and raises through middleware.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.detail = f"The body may have {max_body_bytes} bytes at most."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        response = None
        if _CONTROL_CHARACTER.search(scope["path"]):
            response = problem_response(scope, 400, "A path has no control characters.")
        elif _content_length(scope) > self.max_body_bytes:
            response = problem_response(scope, 413, self.detail)
        if response:
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


def _begin(scope: Scope) -> RequestRecord:
    request_id = _request_id(scope)
    # The body is bytes on the wire; the id reaches handlers through the state.
    state = scope.setdefault("state", {})
    method = scope.get("method", "GET")
    # A stream must know that nobody reads it.
    state.update(request_id=request_id, is_head=method == "HEAD")
    client, trace = scope.get("client"), state.get("trace")
    ids = {"trace_id": trace.id} if trace else {}
    structlog.contextvars.bind_contextvars(
        request_id=request_id, client=client[0] if client else None, **ids
    )
    record = RequestRecord(method, trace)
    current_record.set(record)
    return record


def _begin_answer(message: Message, record: RequestRecord, request_id: str) -> None:
    record.status = int(message.get("status", HTTPStatus.SWITCHING_PROTOCOLS))
    # Starlette's own class for them looks through all of them for each.
    headers = dict(message["headers"])
    message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
    # What may be kept, a route says; most answers are for one person alone.
    if b"cache-control" not in headers:
        message["headers"].append((b"cache-control", b"no-store"))
    is_sse = headers.get(b"content-type", b"").startswith(b"text/event-stream")
    record.is_stream = is_sse or message["type"] == "websocket.accept"


def _as_get(scope: Scope) -> Scope:
    # FastAPI's routes know GET only; of an answer to HEAD, the server sends no body.
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def _request_id(scope: Scope) -> str:
    sent: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    # Anything else could forge log lines.
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _content_length(scope: Scope) -> int:
    value: bytes = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() else 0


def _log_access(path: str, route: str, record: RequestRecord, seconds: float) -> None:
    stream = {"stream": True} if record.is_stream else {}
    log.info(
        "request",
        method=record.method,
        route=route,
        path=path,
        status=record.status,
        **stream,
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
            if started:
                # Half an answer is sent: only closing the connection tells the client. Uvicorn
                # does, and logs it.
                raise
            is_late = isinstance(error, TimeoutError) and deadline.expired()
            if is_late:
                DEADLINES_MISSED.add()
            else:
                log.exception("request failed", method=scope["method"], path=scope["path"])
            await self._problem(scope, is_late)(scope, receive, send)

    def _problem(self, scope: Scope, is_late: bool) -> Response:
        if is_late:
            detail = f"The request was not answered within {self.deadline_seconds:g} s."
            return problem_response(scope, 504, detail)
        return problem_response(scope, 500)
