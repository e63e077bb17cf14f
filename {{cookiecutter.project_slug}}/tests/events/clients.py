"""Clients that follow events: one reads server-sent ones, one has a WebSocket."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

from httpx2 import AsyncClient, Response, codes
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from app.announcements import EVENTS
from app.database import Database
from app.events import repository
from app.events.hub import CHANNEL
from tests.conftest import PASSWORD

EVENTS_PATH = "/api/v1/events"
# Only a test that fails waits so long.
WITHIN_SECONDS = 60

Message = Mapping[str, object]


@dataclass(frozen=True)
class Reader:
    """Somebody who has logged in."""

    url: str
    id: UUID
    email: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def websocket_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}{EVENTS_PATH}/ws"

    @classmethod
    async def log_in(cls, client: AsyncClient, email: str) -> Self:
        await client.post("/api/v1/users", json={"email": email, "password": PASSWORD})
        form = {"username": email, "password": PASSWORD}
        pair = (await client.post("/api/v1/auth/token", data=form)).raise_for_status().json()
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        me = (await client.get("/api/v1/users/me", headers=headers)).json()
        url = str(client.base_url).rstrip("/")
        return cls(url, UUID(me["id"]), email, pair["access_token"], pair["refresh_token"])


async def new_reader(client: AsyncClient) -> Reader:
    return await Reader.log_in(client, f"{uuid4().hex}@example.com")


async def write_events(database: Database, owner_id: UUID, count: int = 1) -> None:
    """As another process of the service would: in one transaction, then told to all workers."""
    async with database.transaction() as session:
        events = [("parcel.changed", uuid4()) for _ in range(count)]
        await session.run_sync(repository.add_events, owner_id, events)
    await repository.notify(database, CHANNEL, [f"{EVENTS}:{owner_id}"])


class Follower:
    """Both kinds of stream say the same: `ready`, then each `event`, and `end` with a code."""

    def __init__(self, messages: AsyncIterator[Message]) -> None:
        self._messages = messages

    async def next(self) -> Message:
        return await asyncio.wait_for(anext(self._messages), WITHIN_SECONDS)

    async def read(self, count: int) -> list[Message]:
        return [await self.next() for _ in range(count)]

    async def end(self) -> Message:
        """Of what comes, the last."""
        while (message := await self.next())["type"] != "end":
            pass
        return message


Follow = Callable[..., AbstractAsyncContextManager[Follower]]


@asynccontextmanager
async def follow_sse(
    client: AsyncClient, reader: Reader, last_event_id: object = None
) -> AsyncIterator[Follower]:
    resumed = {"Last-Event-ID": str(last_event_id)} if last_event_id else {}
    async with client.stream("GET", EVENTS_PATH, headers=reader.headers | resumed) as response:
        assert response.status_code == codes.OK, await response.aread()
        yield Follower(_server_sent(response))


@asynccontextmanager
async def follow_ws(
    _client: AsyncClient, reader: Reader, last_event_id: object = None
) -> AsyncIterator[Follower]:
    query = f"?last_event_id={last_event_id}" if last_event_id else ""
    url = reader.websocket_url + query
    async with connect(url, additional_headers=reader.headers) as websocket:
        yield Follower(messages_of(websocket))


async def _server_sent(response: Response) -> AsyncIterator[Message]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield json.loads(fields["data"])
            fields = {}


async def messages_of(websocket: ClientConnection) -> AsyncIterator[Message]:
    try:
        async for text in websocket:
            yield json.loads(text)
    except ConnectionClosedError:
        pass
    yield {"type": "end", "code": websocket.close_code, "reason": websocket.close_reason}


@asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[Process]:
    process = await create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def read_until(process: Process, text: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_SECONDS):
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, "it ended"
