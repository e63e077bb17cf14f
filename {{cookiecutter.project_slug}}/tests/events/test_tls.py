"""Streams of the service through deploy/nginx/site-tls: over HTTP/2, and WebSockets over TLS."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from app.database import Database
from tests.events.clients import (
    EVENTS_PATH,
    WITHIN_SECONDS,
    Follower,
    Reader,
    messages_of,
    read_until,
    running,
    write_events,
)
from tests.servers import Gunicorn, find_binary
from tests.tls import running_tls, unverified

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def origin(gunicorn: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_tls(tmp_path_factory.mktemp("nginx"), gunicorn.port) as (_, https):
        yield f"https://localhost:{https}"


async def test_stream_over_http2_has_events_and_an_end_when_workers_are_replaced(
    gunicorn: Gunicorn, origin: str, reader: Reader, writer: Database
) -> None:
    command = [find_binary("curl"), "--http2", "--insecure", "--include", "--no-buffer", "--silent"]
    command += ["--header", f"Authorization: Bearer {reader.access_token}"]
    async with running(*command, f"{origin}{EVENTS_PATH}") as curl:
        await read_until(curl, "HTTP/2 200")
        await read_until(curl, '"ready"')
        await write_events(writer, reader.id)
        await read_until(curl, '"seq":1')
        gunicorn.process.send_signal(signal.SIGHUP)
        await read_until(curl, '"code":1012')
        assert await asyncio.wait_for(curl.wait(), WITHIN_SECONDS) == 0


async def test_socket_over_tls_has_events_and_a_code_when_workers_are_replaced(
    gunicorn: Gunicorn, origin: str, reader: Reader, writer: Database
) -> None:
    async with connect(
        f"{origin.replace('https', 'wss')}{EVENTS_PATH}/ws",
        ssl=unverified(),
        # As a browser does.
        origin=Origin(origin),
        subprotocols=[Subprotocol("v1"), Subprotocol(f"bearer.{reader.access_token}")],
    ) as websocket:
        follower = Follower(messages_of(websocket))
        assert (await follower.next())["type"] == "ready"
        await write_events(writer, reader.id)
        assert (await follower.next())["seq"] == 1
        gunicorn.process.send_signal(signal.SIGHUP)
        assert (await follower.end())["code"] == 1012
