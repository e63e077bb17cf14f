"""Events reach their owner on every worker, both ways, and nobody else."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from httpx2 import AsyncClient
from sqlalchemy import delete

from app.accounts.models import User
from app.database import Database
from app.events import repository, router
from app.events.hub import CHANNEL
from app.events.models import Event
from app.events.repository import EventRow, Head
from app.events.streams import QUEUE_ROWS_MAX, TOO_SLOW, Follower, Stream
from tests.conftest import PASSWORD
from tests.events.clients import (
    EVENTS_PATH,
    Follow,
    Reader,
    follow_sse,
    follow_ws,
    new_reader,
    write_events,
)

pytestmark = pytest.mark.system


async def delete_events(database: Database, reader: Reader, up_to: int) -> None:
    async with database.transaction() as session:
        old = delete(Event).where(Event.owner_id == reader.id, Event.seq <= up_to)
        await session.execute(old)


EndSession = Callable[[AsyncClient, Reader, Database], Awaitable[None]]

both_ways = pytest.mark.parametrize("follow", [follow_sse, follow_ws])


@both_ways
async def test_streams_of_all_workers_get_an_event_when_one_is_written(
    http: AsyncClient, reader: Reader, writer: Database, follow: Follow
) -> None:
    async with (
        follow(http, reader) as one,
        follow(http, reader) as two,
        follow(http, reader) as three,
    ):
        followers = (one, two, three)
        assert [(await follower.next())["type"] for follower in followers] == ["ready"] * 3
        await write_events(writer, reader.id)
        assert [(await follower.next())["seq"] for follower in followers] == [1, 1, 1]


@both_ways
async def test_stream_resumes_without_loss_when_it_was_cut(
    http: AsyncClient, reader: Reader, writer: Database, follow: Follow
) -> None:
    await write_events(writer, reader.id, 2)
    async with follow(http, reader, "0-0") as follower:
        _, first, _ = await follower.read(3)
    await write_events(writer, reader.id, 250)
    async with follow(http, reader, first["id"]) as follower:
        _, *rest = await follower.read(252)
    assert [event["seq"] for event in rest] == list(range(2, 253))


@both_ways
async def test_stream_says_where_it_is_when_nothing_has_happened(
    http: AsyncClient, reader: Reader, writer: Database, follow: Follow
) -> None:
    await write_events(writer, reader.id, 2)
    async with follow(http, reader) as follower:
        ready = await follower.next()
    await write_events(writer, reader.id)
    async with follow(http, reader, ready["id"]) as follower:
        assert (await follower.read(2))[1]["seq"] == 3


@both_ways
async def test_stream_has_none_of_another_users_events(
    http: AsyncClient, reader: Reader, writer: Database, follow: Follow
) -> None:
    stranger = await new_reader(http)
    async with follow(http, reader) as follower:
        await follower.next()
        await write_events(writer, stranger.id, 5)
        await write_events(writer, reader.id)
        event = await follower.next()
    assert (event["seq"], event["kind"]) == (1, "parcel.changed")


async def log_out(http: AsyncClient, reader: Reader, _writer: Database) -> None:
    await http.post("/api/v1/auth/logout", json={"refresh_token": reader.refresh_token})


async def change_password(http: AsyncClient, reader: Reader, _writer: Database) -> None:
    other = await Reader.log_in(http, reader.email)
    body = {"current_password": PASSWORD, "new_password": f"{PASSWORD} 2"}
    await http.put("/api/v1/users/me/password", json=body, headers=other.headers)


async def disable(_http: AsyncClient, reader: Reader, writer: Database) -> None:
    """As the admin app does."""
    async with writer.transaction() as session:
        (await session.get_one(User, reader.id)).disabled_at = datetime.now(UTC)
    await repository.notify(writer, CHANNEL, writer.announcements.take())


@both_ways
@pytest.mark.parametrize("end_session", [log_out, change_password, disable])
async def test_stream_ends_within_a_second_when_the_session_does(
    http: AsyncClient, reader: Reader, writer: Database, follow: Follow, end_session: EndSession
) -> None:
    async with follow(http, reader) as one, follow(http, reader) as two:
        await one.next(), await two.next()
        await end_session(http, reader, writer)
        async with asyncio.timeout(1):
            ends = [await one.end(), await two.end()]
    assert [end["code"] for end in ends] == [4401, 4401]


async def test_stream_is_refused_when_the_user_has_too_many(
    http: AsyncClient, reader: Reader
) -> None:
    """Three on each of two workers; of the others the ends are never read."""
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(http.stream("GET", EVENTS_PATH, headers=reader.headers))
            for _ in range(7)
        ]
        assert {stream.status_code for stream in streams} == {200, 429}


@pytest.mark.parametrize("last_event_id", ["x", "0-9", "deadbeef-1", "-", "0-1e3", "0-" + "9" * 30])
async def test_resume_is_refused_with_410_when_the_id_is_none_of_the_service(
    http: AsyncClient, reader: Reader, writer: Database, last_event_id: str
) -> None:
    await write_events(writer, reader.id)
    headers = {**reader.headers, "Last-Event-ID": last_event_id}
    response = await http.get(EVENTS_PATH, headers=headers)
    assert response.status_code == 410


async def test_resume_is_refused_with_410_when_events_are_gone(
    http: AsyncClient, reader: Reader, writer: Database
) -> None:
    await write_events(writer, reader.id, 3)
    async with follow_sse(http, reader, "0-0") as follower:
        _, first, second = await follower.read(3)
    await delete_events(writer, reader, 2)
    resumed = {"Last-Event-ID": str(first["id"])}
    gone = await http.get(EVENTS_PATH, headers=reader.headers | resumed)
    assert gone.status_code == 410
    async with follow_sse(http, reader, second["id"]) as follower:
        assert (await follower.read(2))[1]["seq"] == 3


async def test_streams_hold_no_connection_of_the_pool_when_they_are_open(
    http: AsyncClient, reader: Reader, writer: Database
) -> None:
    """With pools of five, twenty of them would leave none for the request."""
    readers = [await new_reader(http) for _ in range(20)]
    async with AsyncExitStack() as stack:
        for other in readers:
            follower = await stack.enter_async_context(follow_sse(http, other))
            await follower.next()
        assert (await http.get("/api/v1/users/me", headers=reader.headers)).status_code == 200


async def test_head_of_a_stream_is_answered(http: AsyncClient, reader: Reader) -> None:
    response = await http.head(EVENTS_PATH, headers=reader.headers)
    assert response.status_code == 200
    assert (await http.get("/livez")).status_code == 200


async def test_stream_is_refused_with_its_status_when_the_token_is_missing(
    http: AsyncClient,
) -> None:
    response = await http.get(EVENTS_PATH)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"


async def test_stream_is_refused_with_its_status_when_the_scope_is_missing(
    http: AsyncClient, reader: Reader
) -> None:
    form = {"username": reader.email, "password": PASSWORD, "scope": "items:read"}
    pair = (await http.post("/api/v1/auth/token", data=form)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await http.get(EVENTS_PATH, headers=headers)).status_code == 403


def new_stream(database: Database) -> Stream:
    follower = Follower(uuid4(), uuid4(), int(time.time()) + 60)
    return Stream(database, follower, Head(uuid4(), 0, 1), 0, 0)


async def test_stream_beats_when_nothing_happens(
    writer: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "HEARTBEAT_SECONDS", 0.01)
    chunks = aiter(router.ServerSentEvents(new_stream(writer)).body_iterator)
    first = await anext(chunks)
    assert isinstance(first, bytes)
    assert re.match(rb"retry: [1-5]\d{3}\nid: [0-9a-f]{8}-0\nevent: ready\n", first)
    assert [await anext(chunks), await anext(chunks)] == [b":\n\n"] * 2


async def test_stream_is_ended_when_too_many_events_wait(writer: Database) -> None:
    stream = new_stream(writer)
    row = EventRow(uuid4(), uuid4(), 1, "parcel.changed", uuid4(), datetime.now(UTC))
    stream.offer([row] * QUEUE_ROWS_MAX)
    assert stream.end is None
    stream.offer([row])
    assert stream.end == TOO_SLOW
