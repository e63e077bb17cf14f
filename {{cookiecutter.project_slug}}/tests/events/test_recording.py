"""What is written and pruned in the table itself, without a stream."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from app.accounts.models import Session, User
from app.accounts.repository import delete_sessions_of_user
from app.database import Database
from app.errors import GoneError
from app.events import repository
from app.events.models import Event
from app.events.repository import Head
from app.events.streams import read_position
from app.housekeeping import purge
from app.settings import Settings
from tests.conftest import SignedInUser


async def write(database: Database, user: SignedInUser, count: int) -> None:
    async with database.transaction() as session:
        events = [("parcel.changed", uuid4()) for _ in range(count)]
        await session.run_sync(repository.add_events, user.id, events)


async def test_prune_deletes_what_is_old_and_numbers_go_on(
    database: Database, settings: Settings, user: SignedInUser
) -> None:
    await write(database, user, 3)
    async with database.transaction() as session:
        ages = update(Event).where(Event.seq < 3)
        old = func.now() - timedelta(seconds=settings.events_kept_seconds + 60)
        await session.execute(ages.values(created_at=old))
    assert await purge(database, settings) == 2
    await write(database, user, 1)
    rows = await repository.list_events(database, {user.id: 0}, 10)
    assert [row.seq for row in rows] == [3, 4]
    assert (await repository.get_head(database, user.id)).first_seq == 3


@pytest.mark.parametrize(("sent", "position"), [(None, 9), ("0-0", 0), ("{epoch}-4", 4)])
def test_position_is_where_the_client_was(sent: str | None, position: int) -> None:
    head = Head(uuid4(), 9, 1)
    sent = sent and sent.replace("{epoch}", head.epoch.hex[:8])
    assert read_position(head, sent) == position


@pytest.mark.parametrize("sent", ["0-0", "{epoch}-3", "{epoch}-10", "{epoch}-", "00000000-5"])
def test_position_is_refused_when_events_would_be_missed(sent: str) -> None:
    head = Head(uuid4(), 9, 5)
    with pytest.raises(GoneError):
        read_position(head, sent.replace("{epoch}", head.epoch.hex[:8]))


async def test_all_workers_hear_of_it_when_sessions_end(
    database: Database, user: SignedInUser
) -> None:
    database.announcements.take()
    async with database.transaction() as session:
        await delete_sessions_of_user(session, user.id)
    assert database.announcements.take() == [f"account:{user.id}"]


async def test_all_workers_hear_of_it_when_the_admin_app_ends_or_disables(
    database: Database, user: SignedInUser
) -> None:
    database.announcements.take()
    async with database.transaction() as session:
        row = await session.scalar(select(Session).where(Session.user_id == user.id))
        await session.delete(row)
    assert database.announcements.take() == [f"account:{user.id}"]
    async with database.transaction() as session:
        owner = await session.get_one(User, user.id)
        owner.disabled_at = owner.created_at
    assert database.announcements.take() == [f"account:{user.id}"]
