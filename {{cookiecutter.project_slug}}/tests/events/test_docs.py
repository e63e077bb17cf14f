"""The clients of docs/events.md: curl and the command line of websockets."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.database import Database
from tests.events.clients import EVENTS_PATH, WITHIN_SECONDS, Reader, write_events
from tests.servers import find_binary

pytestmark = pytest.mark.system


@asynccontextmanager
async def running(*command: str | Path) -> AsyncIterator[Process]:
    process = await create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def read_until(process: Process, text: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_SECONDS):
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, "it ended"


async def test_curl_shows_events_and_resumes(reader: Reader, writer: Database) -> None:
    await write_events(writer, reader.id)
    command = [find_binary("curl"), "--no-buffer", "--silent", "--header"]
    command += [f"Authorization: Bearer {reader.access_token}", "--header", "Last-Event-ID: 0-0"]
    async with running(*command, f"{reader.url}{EVENTS_PATH}") as curl:
        await read_until(curl, '"seq":1')
        await write_events(writer, reader.id)
        await read_until(curl, '"seq":2')


async def test_command_line_of_websockets_shows_events(reader: Reader, writer: Database) -> None:
    program = Path(sys.executable).with_name("websockets")
    async with running(program, reader.websocket_url) as websockets:
        assert websockets.stdin is not None
        first = json.dumps({"token": reader.access_token, "last_event_id": "0-0"})
        websockets.stdin.write(f"{first}\n".encode())
        await read_until(websockets, '"ready"')
        await write_events(writer, reader.id)
        await read_until(websockets, '"seq":1')
