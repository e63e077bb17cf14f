"""Every change of an item is an event of its owner, exactly if the change is committed."""

import asyncio
from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app.database import Database
from app.events.models import Event
from app.items import service
from app.items.models import Item
from app.items.schemas import ItemCreate
from app.lifespan import build_state
from app.settings import Settings
from tests.conftest import SignedInUser, sign_up
from tests.items.test_router import ITEMS, create


async def events_of(database: Database, owner_id: UUID) -> list[tuple[int, str, UUID]]:
    statement = select(Event.seq, Event.kind, Event.subject_id)
    async with database.transaction() as session:
        rows = await session.execute(
            statement.where(Event.owner_id == owner_id).order_by(Event.seq)
        )
        return [(row.seq, row.kind, row.subject_id) for row in rows]


async def test_each_change_is_an_event(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    item_id = UUID((await create(client, user)).json()["id"])
    url = f"{ITEMS}/{item_id}"
    await client.patch(url, json={"tags": ["home"]}, headers=user.headers)
    await client.delete(url, headers=user.headers)
    kinds = ["item.created", "item.changed", "item.deleted"]
    expected = [(seq, kind, item_id) for seq, kind in enumerate(kinds, 1)]
    assert await events_of(database, user.id) == expected


async def test_refused_change_is_no_event(
    client: AsyncClient, user: SignedInUser, stranger: SignedInUser, database: Database
) -> None:
    item = (await create(client, user)).json()
    for who in (stranger, user):
        body = {"title": "mine" if who is stranger else ""}
        await client.patch(f"{ITEMS}/{item['id']}", json=body, headers=who.headers)
    assert len(await events_of(database, user.id)) == 1
    assert await events_of(database, stranger.id) == []


async def test_change_that_is_rolled_back_is_no_event(
    database: Database, user: SignedInUser
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as session:
            session.add(Item(owner_id=user.id, title="Buy milk"))
            await session.flush()
            raise ZeroDivisionError
    assert await events_of(database, user.id) == []


async def test_owners_are_told_when_the_change_is_committed(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    database.announcements.take()
    await create(client, user)
    assert database.announcements.take() == [f"events:{user.id}"]


async def test_numbers_have_no_gap_when_many_write_at_once(
    committing_database: Database, settings: Settings
) -> None:
    """Single statements, and transactions for several owners in another order of which every
    fourth fails."""
    state = build_state(settings, committing_database)
    writers = [(await sign_up(state, f"{name}@example.com")).id for name in ("ada", "bea", "cyd")]

    async def write(number: int) -> None:
        order = writers[:: 1 if number % 2 else -1]
        await service.create_item(committing_database, order[0], ItemCreate(title="Buy milk"))
        async with committing_database.transaction() as session:
            session.add_all([Item(owner_id=owner_id, title="Buy milk") for owner_id in order])
            await session.flush()
            if number % 4 == 0:
                raise ZeroDivisionError

    results = await asyncio.gather(*map(write, range(40)), return_exceptions=True)
    assert [type(result) for result in results if result] == [ZeroDivisionError] * 10
    for owner_id, count in zip(writers, (50, 30, 50), strict=True):
        events = await events_of(committing_database, owner_id)
        assert [seq for seq, *_ in events] == list(range(1, count + 1))
