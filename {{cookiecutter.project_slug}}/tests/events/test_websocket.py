"""What is particular to the WebSocket: who may open it, what may be said, how it is closed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from httpx2 import AsyncClient
from jose import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.database import Database
from app.settings import Settings
from tests.events.clients import (
    WITHIN_SECONDS,
    Follower,
    Reader,
    messages_of,
    new_reader,
    write_events,
)

pytestmark = pytest.mark.system


@asynccontextmanager
async def open_socket(
    reader: Reader, *offered: str, **headers: str
) -> AsyncIterator[ClientConnection]:
    subprotocols = [Subprotocol(name) for name in offered] or None
    async with connect(
        reader.websocket_url, subprotocols=subprotocols, additional_headers=headers
    ) as websocket:
        yield websocket


async def close_code(websocket: ClientConnection) -> object:
    return (await Follower(messages_of(websocket)).end())["code"]


async def test_token_is_taken_as_subprotocol(reader: Reader, writer: Database) -> None:
    async with open_socket(reader, "v1", f"bearer.{reader.access_token}") as websocket:
        assert websocket.subprotocol == "v1"
        follower = Follower(messages_of(websocket))
        await follower.next()
        await write_events(writer, reader.id)
        assert (await follower.next())["seq"] == 1


async def test_token_is_taken_as_first_message(reader: Reader, writer: Database) -> None:
    await write_events(writer, reader.id, 2)
    async with open_socket(reader) as websocket:
        await websocket.send(json.dumps({"token": reader.access_token, "last_event_id": "0-0"}))
        _, *events = await Follower(messages_of(websocket)).read(3)
    assert [event["seq"] for event in events] == [1, 2]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"token": "x"}', 4401),
        ("{}", 4422),
        ("not JSON", 4422),
        (b"\x00\xff", 4422),
        ('{"token": "x", "more": 1}', 4422),
        ("x" * 5000, 4413),
        ("x" * 2_000_000, 1009),
    ],
)
async def test_socket_is_closed_when_the_first_message_is_bad(
    reader: Reader, message: str | bytes, code: int
) -> None:
    async with open_socket(reader) as websocket:
        await websocket.send(message)
        assert await close_code(websocket) == code


async def test_socket_is_closed_with_4401_when_nothing_is_said(reader: Reader) -> None:
    async with open_socket(reader) as websocket:
        assert await close_code(websocket) == 4401


async def test_socket_is_closed_with_4403_when_the_origin_is_another(reader: Reader) -> None:
    async with open_socket(reader, Origin="https://evil.example") as websocket:
        assert await close_code(websocket) == 4403


async def test_socket_is_closed_with_4410_when_the_id_is_none_of_the_service(
    reader: Reader,
) -> None:
    async with open_socket(reader) as websocket:
        await websocket.send(json.dumps({"token": reader.access_token, "last_event_id": "a-1"}))
        assert await close_code(websocket) == 4410


async def test_socket_is_closed_with_4429_when_the_client_sends_without_end(reader: Reader) -> None:
    async with open_socket(reader, "v1", f"bearer.{reader.access_token}") as websocket:
        for _ in range(30):
            await websocket.send(json.dumps({"token": reader.access_token}))
        assert await close_code(websocket) == 4429


async def test_socket_is_closed_with_4403_when_it_is_renewed_for_another_user(
    http: AsyncClient, reader: Reader
) -> None:
    stranger = await new_reader(http)
    async with open_socket(reader, "v1", f"bearer.{reader.access_token}") as websocket:
        await websocket.send(json.dumps({"token": stranger.access_token}))
        assert await close_code(websocket) == 4403


def expiring(settings: Settings, reader: Reader, seconds: int) -> str:
    """The same token, for a shorter time."""
    key = settings.secret_key.get_secret_value()
    claims = jwt.get_unverified_claims(reader.access_token)
    headers = jwt.get_unverified_headers(reader.access_token)
    claims["exp"] = claims["iat"] + seconds
    return jwt.encode(claims, key, "HS256", {"kid": headers["kid"], "typ": headers["typ"]})


async def test_socket_is_closed_with_4401_when_the_token_expires(
    settings: Settings, reader: Reader
) -> None:
    token = expiring(settings, reader, 3)
    async with asyncio.timeout(WITHIN_SECONDS), open_socket(reader, f"bearer.{token}") as websocket:
        assert await close_code(websocket) == 4401


async def test_socket_stays_open_when_the_token_is_renewed(
    settings: Settings, reader: Reader, writer: Database
) -> None:
    token = expiring(settings, reader, 3)
    async with open_socket(reader, "v1", f"bearer.{token}") as websocket:
        follower = Follower(messages_of(websocket))
        await follower.next()
        await websocket.send(json.dumps({"token": reader.access_token}))
        # Longer than the first token lives.
        await asyncio.sleep(4)
        await write_events(writer, reader.id)
        assert (await follower.next())["seq"] == 1
