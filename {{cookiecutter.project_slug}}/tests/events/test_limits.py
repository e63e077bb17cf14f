"""What one client can cost: one that never reads, many that say nothing good, a full worker."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app.database import Database
from app.settings import Settings
from development import bench
from tests.events.clients import (
    EVENTS_PATH,
    Reader,
    follow_sse,
    follow_ws,
    new_reader,
    write_events,
)
from tests.servers import DEADLINE_SECONDS, Gunicorn, running_gunicorn, wait_until

pytestmark = pytest.mark.system

# More than the buffers of the process and of the kernel hold.
MANY_EVENTS, EVENTS_PER_TRANSACTION = 40_000, 2_000
BAD_MESSAGES = 10_000
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.fixture(scope="module")
def gunicorn(settings: Settings, migrated: None) -> Iterator[Gunicorn]:
    """One worker, which cannot hear: as behind PgBouncer, without DATABASE_LISTEN_URL."""
    limits = {"STREAMS_PER_USER_MAX": "1", "STREAMS_PER_WORKER_MAX": "3"}
    with running_gunicorn(settings, DATABASE_PGBOUNCER="true", **limits) as gunicorn:
        yield gunicorn


async def wait_for(http: AsyncClient, reader: Reader, status: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
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


@pytest.mark.parametrize(("path", "headers"), [(EVENTS_PATH, ""), (f"{EVENTS_PATH}/ws", UPGRADE)])
async def test_reader_that_never_reads_is_cut_off(
    http: AsyncClient, reader: Reader, writer: Database, path: str, headers: str
) -> None:
    for _ in range(MANY_EVENTS // EVENTS_PER_TRANSACTION):
        await write_events(writer, reader.id, EVENTS_PER_TRANSACTION)
    with socket.socket() as peer:
        peer.settimeout(DEADLINE_SECONDS)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", http.base_url.port))
        request = f"GET {path}?last_event_id=0-0 HTTP/1.1\r\nHost: localhost\r\n{headers}"
        peer.sendall(f"{request}Authorization: Bearer {reader.access_token}\r\n\r\n".encode())
        received = b""
        while b"ready" not in received:
            received += peer.recv(64)
        assert await status_of_a_stream(http, reader) == 429
        await wait_for(http, reader, 200)


def open_files(gunicorn: Gunicorn) -> int:
    [worker] = bench.children_of(gunicorn.process.pid)
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


async def test_bad_first_messages_leave_nothing_behind(
    gunicorn: Gunicorn, http: AsyncClient, reader: Reader
) -> None:
    request = f"GET {EVENTS_PATH}/ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n"
    left = iter(range(BAD_MESSAGES))

    async def be_bad() -> Counter[int]:
        codes = Counter[int]()
        for _ in left:
            reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
            writer.write(request.encode())
            await reader.readuntil(b"\r\n\r\n")
            # A text of two bytes with a mask of zeros: no JSON.
            writer.write(b"\x81\x82\0\0\0\0no")
            close = await reader.readexactly(4)
            codes[int.from_bytes(close[2:])] += 1
            writer.close()
        return codes

    before = open_files(gunicorn)
    # As many as there are places, so that none is told that the worker is full.
    totals = await asyncio.gather(*(be_bad() for _ in range(3)))
    assert sum(totals, Counter()) == {4422: BAD_MESSAGES}
    assert await status_of_a_stream(http, reader) == 200
    await asyncio.to_thread(wait_until, lambda: open_files(gunicorn) <= before)


async def test_stream_is_refused_when_the_worker_is_full(http: AsyncClient) -> None:
    readers = [await new_reader(http) for _ in range(4)]
    async with (
        follow_sse(http, readers[0]),
        follow_sse(http, readers[1]),
        follow_sse(http, readers[2]),
    ):
        assert await status_of_a_stream(http, readers[3]) == 503
        async with follow_ws(http, readers[3]) as follower:
            assert (await follower.end())["code"] == 4503


async def test_stream_is_free_again_when_the_client_has_left(
    http: AsyncClient, reader: Reader
) -> None:
    for _ in range(5):
        await wait_for(http, reader, 200)
