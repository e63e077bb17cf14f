"""What one client can cost: one that never reads, many that say nothing good, a full worker."""

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest
from httpx2 import AsyncClient
from websockets.asyncio.client import connect

from app.database import Database
from app.settings import Settings
from tests.events.clients import (
    EVENTS_PATH,
    WITHIN_SECONDS,
    Follower,
    Reader,
    follow_sse,
    messages_of,
    new_reader,
    write_events,
)
from tests.servers import running_service

pytestmark = pytest.mark.system

# More than the buffers of the process and of the kernel hold.
MANY_EVENTS, EVENTS_PER_TRANSACTION = 40_000, 2_000
BAD_MESSAGES = 500


@pytest.fixture(scope="module")
def service_url(settings: Settings, migrated: None) -> Iterator[str]:
    """Of one worker, which cannot hear: as behind PgBouncer, without DATABASE_LISTEN_URL."""
    limits = {"STREAMS_PER_USER_MAX": "1", "STREAMS_PER_WORKER_MAX": "3"}
    with running_service(settings, DATABASE_PGBOUNCER="true", **limits) as url:
        yield url


async def wait_for(http: AsyncClient, reader: Reader, status: int) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while await status_of_a_stream(http, reader) != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def status_of_a_stream(http: AsyncClient, reader: Reader) -> int:
    async with http.stream("GET", EVENTS_PATH, headers=reader.headers) as response:
        return response.status_code


async def test_event_arrives_when_no_worker_can_listen(
    http: AsyncClient, reader: Reader, writer: Database
) -> None:
    async with follow_sse(http, reader) as follower:
        await follower.next()
        await write_events(writer, reader.id)
        assert (await follower.next())["seq"] == 1


async def test_reader_that_never_reads_is_cut_off(
    http: AsyncClient, reader: Reader, writer: Database
) -> None:
    for _ in range(MANY_EVENTS // EVENTS_PER_TRANSACTION):
        await write_events(writer, reader.id, EVENTS_PER_TRANSACTION)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", http.base_url.port))
        request = f"GET {EVENTS_PATH}?last_event_id=0-0 HTTP/1.1\r\nHost: localhost\r\n"
        peer.sendall(f"{request}Authorization: Bearer {reader.access_token}\r\n\r\n".encode())
        await wait_for(http, reader, 429)
        await wait_for(http, reader, 200)


async def test_bad_first_messages_leave_nothing_behind(http: AsyncClient, reader: Reader) -> None:
    async def be_bad() -> object:
        async with connect(reader.websocket_url) as websocket:
            await websocket.send(json.dumps({"token": "x"}))
            return (await Follower(messages_of(websocket)).end())["code"]

    codes = [await be_bad() for _ in range(BAD_MESSAGES)]
    assert set(codes) == {4401}
    assert await status_of_a_stream(http, reader) == 200


async def test_stream_is_refused_with_503_when_the_worker_is_full(http: AsyncClient) -> None:
    readers = [await new_reader(http) for _ in range(4)]
    async with (
        follow_sse(http, readers[0]),
        follow_sse(http, readers[1]),
        follow_sse(http, readers[2]),
    ):
        assert await status_of_a_stream(http, readers[3]) == 503


async def test_stream_is_free_again_when_the_client_has_left(
    http: AsyncClient, reader: Reader
) -> None:
    for _ in range(5):
        await wait_for(http, reader, 200)
