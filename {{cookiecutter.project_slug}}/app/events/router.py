"""Routes of the events: server-sent ones, and the same over a WebSocket."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, cast

import orjson
from fastapi import APIRouter, Depends, Header, Query, Security, WebSocket
from fastapi.security import SecurityScopes
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.accounts.dependencies import (
    TokenKeysDep,
    authenticate,
    find_access_token,
    get_current_user,
)
from app.accounts.repository import AuthenticatedUser
from app.accounts.roles import EVENTS_READ
from app.accounts.tokens import TokenKeys, read_access_token
from app.database import Database, DatabaseDep
from app.errors import (
    ContentTooLargeError,
    ForbiddenError,
    InvalidInputError,
    TooManyRequestsError,
    UnauthorizedError,
    problem_responses,
)
from app.events.hub import Hub
from app.events.streams import End, EventOut, Follower, Stream
from app.websockets import choose_subprotocol

# Shorter than any proxy's patience (nginx's default is 60 s), and Uvicorn pings WebSockets itself.
HEARTBEAT_SECONDS = 15
# After a reload not all clients come back at once. Default of EventSource: a few seconds for all.
RETRY_MS = (1000, 5000)
# For one event; the buffers of the system are full then, and nothing waits in this process.
SEND_WITHIN_SECONDS = 10
FIRST_MESSAGE_WITHIN_SECONDS = 5
# A token has 2048 characters at most.
MESSAGE_LENGTH_MAX = 4096
# A client has nothing to say but a new token every few minutes.
MESSAGES_PER_MINUTE_MAX = 10
MINUTE_SECONDS = 60

CLIENT_LEFT = End(1000, "")

router = APIRouter(prefix="/events", tags=["events"])
LastEventId = Annotated[str | None, Query(description="As the header Last-Event-ID.")]
UserDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[EVENTS_READ])]


async def get_hub(connection: HTTPConnection) -> Hub:
    return cast("Hub", connection.state.hub)


HubDep = Annotated[Hub, Depends(get_hub)]


def _server_sent_event() -> dict[str, object]:
    """As OpenAPI 3.2 describes one; what has no name is an event."""
    text = {"type": "string"}
    data = text | {"contentMediaType": "application/json"}
    told = {"type": "object", "properties": {"type": {"enum": ["ready", "end"]}}}
    return {
        "type": "object",
        "properties": {
            "id": text,
            "event": text | {"enum": ["ready", "end"]},
            "retry": {"type": "integer"},
            "data": {**data, "contentSchema": {"anyOf": [EventOut.model_json_schema(), told]}},
        },
    }


async def get_follower(connection: HTTPConnection, keys: TokenKeysDep, user: UserDep) -> Follower:
    expires_at = read_access_token(keys, find_access_token(connection)).exp
    return Follower(user.id, user.session_id, expires_at)


async def get_stream(
    hub: HubDep,
    follower: Annotated[Follower, Depends(get_follower)],
    last_event_id: LastEventId = None,
    resumed_from: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> AsyncIterator[Stream]:
    """Refuses with a true status; a stream that has begun could only break off."""
    with hub.reserve():
        async with hub.follow(follower, resumed_from or last_event_id) as stream:
            yield stream


class ServerSentEvents(StreamingResponse):
    """22 KB for each client; FastAPI's own takes 46, and tells nobody of a slow one."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream) -> None:
        # nginx holds nothing back, whatever its configuration says.
        super().__init__(_chunks(stream), headers={"X-Accel-Buffering": "no"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await send(message)

        watch = asyncio.create_task(self._watch(receive))
        if scope["state"].get("is_head"):
            self._stream.finish(CLIENT_LEFT)
        try:
            # Too slow: the connection is closed, which tells it to resume.
            with suppress(TimeoutError):
                await self.stream_response(send_in_time)
        finally:
            watch.cancel()

    async def _watch(self, receive: Receive) -> None:
        await self.listen_for_disconnect(receive)
        self._stream.finish(CLIENT_LEFT)


@router.get(
    "",
    status_code=200,
    response_class=ServerSentEvents,
    responses=problem_responses(401, 403, 410, 429)
    | {200: {"content": {"text/event-stream": {"itemSchema": _server_sent_event()}}}},
)
async def follow_events(stream: Annotated[Stream, Depends(get_stream)]) -> ServerSentEvents:
    """Follow what changes: server-sent events, from now on or from Last-Event-ID."""
    return ServerSentEvents(stream)


async def _chunks(stream: Stream) -> AsyncIterator[bytes]:
    retry_ms = random.randint(*RETRY_MS)  # noqa: S311
    ready = _ready(stream)
    yield f"retry: {retry_ms}\nid: {stream.id}\nevent: ready\ndata: {ready}\n\n".encode()
    while stream.end is None:
        events = await stream.next_events(HEARTBEAT_SECONDS)
        lines = (
            f"id: {event.id}\ndata: {event.model_dump_json()}\n\n".encode() for event in events
        )
        yield b"".join(lines) or b":\n\n"
    end = {"type": "end", "code": stream.end.code, "reason": stream.end.reason}
    yield b"event: end\ndata: %b\n\n" % orjson.dumps(end)


def _ready(stream: Stream) -> str:
    return orjson.dumps({"type": "ready", "id": stream.id}).decode()


class ClientMessage(BaseModel):
    """The first one of a client that sent no token before, or one with a newer token."""

    model_config = ConfigDict(extra="forbid")

    token: str
    last_event_id: str | None = None


Admit = Callable[[str], Awaitable[Follower]]


async def _admit(database: Database, keys: TokenKeys, token: str) -> Follower:
    claims = read_access_token(keys, token)
    user = await authenticate(database, claims, SecurityScopes([EVENTS_READ]))
    return Follower(user.id, user.session_id, claims.exp)


@router.websocket("/ws")
async def follow_events_on_websocket(
    websocket: WebSocket,
    hub: HubDep,
    database: DatabaseDep,
    keys: TokenKeysDep,
    last_event_id: LastEventId = None,
) -> None:
    """The same events, one in each message."""
    admit = partial(_admit, database, keys)
    with hub.reserve():
        token = find_access_token(websocket)
        follower = await admit(token) if token else None
        await websocket.accept(choose_subprotocol(websocket))
        if follower is None:
            first = await _receive_first(websocket)
            follower, last_event_id = await admit(first.token), first.last_event_id
        async with hub.follow(follower, last_event_id) as stream:
            await _converse(websocket, stream, admit)


async def _receive_first(websocket: WebSocket) -> ClientMessage:
    try:
        async with asyncio.timeout(FIRST_MESSAGE_WITHIN_SECONDS):
            return _read_message(await websocket.receive())
    except TimeoutError as error:
        raise UnauthorizedError('Send {"token": "..."} first.') from error


def _read_message(message: Message) -> ClientMessage:
    text = message.get("text") or ""
    if len(text) > MESSAGE_LENGTH_MAX:
        raise ContentTooLargeError(f"A message may have {MESSAGE_LENGTH_MAX} characters at most.")
    try:
        return ClientMessage.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInputError('Send {"token": "..."} and nothing else.') from error


async def _converse(websocket: WebSocket, stream: Stream, admit: Admit) -> None:
    listener = asyncio.create_task(_listen(websocket, stream, admit))
    try:
        await _send(websocket, _ready(stream))
        while stream.end is None:
            for event in await stream.next_events(HEARTBEAT_SECONDS):
                await _send(websocket, event.model_dump_json())
        if stream.end is not CLIENT_LEFT:
            async with asyncio.timeout(SEND_WITHIN_SECONDS):
                await websocket.close(stream.end.code, stream.end.reason)
    except TimeoutError:
        # Full buffers have no room for a code either; what there is goes when the client reads on.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await websocket.close(4408, "This client reads too slowly.")
    finally:
        listener.cancel()


async def _send(websocket: WebSocket, text: str) -> None:
    async with asyncio.timeout(SEND_WITHIN_SECONDS):
        await websocket.send_text(text)


async def _listen(websocket: WebSocket, stream: Stream, admit: Admit) -> None:
    """A client may only renew its token, and for the same user."""
    arrived = deque[float](maxlen=MESSAGES_PER_MINUTE_MAX)
    try:
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            now = time.monotonic()
            if len(arrived) == MESSAGES_PER_MINUTE_MAX and now - arrived[0] < MINUTE_SECONDS:
                raise TooManyRequestsError("Too many messages.", MINUTE_SECONDS)
            arrived.append(now)
            follower = await admit(_read_message(message).token)
            if follower.user_id != stream.follower.user_id:
                raise ForbiddenError("The token is another user's.")
            stream.renew(follower)
        stream.finish(CLIENT_LEFT)
    except HTTPException as error:
        stream.finish(End.because_of(error))
