"""The clients of docs/events.md: curl and the command line of websockets."""

import json
import sys
from pathlib import Path

import pytest

from app.database import Database
from tests.events.clients import EVENTS_PATH, Reader, read_until, running, write_events
from tests.servers import find_binary

pytestmark = pytest.mark.system


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
