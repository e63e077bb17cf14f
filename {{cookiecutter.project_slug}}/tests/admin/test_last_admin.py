"""There is always an admin left, also when two of them act at the same moment."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.accounts.models import User
from app.accounts.roles import Role
from app.admin import service
from app.admin.audit import Actor
from app.database import Database
from app.errors import ForbiddenError
from app.lifespan import State
from tests.accounts.test_races import wait_until_blocked
from tests.admins import add_admin

Change = Callable[[Database, Actor, Sequence[UUID]], Awaitable[None]]


@pytest.fixture
def database(committing_database: Database) -> Database:
    return committing_database


async def demote(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    await service.give_role(database, actor, user_ids, Role.MEMBER)


async def demote_in_form(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    values = {"email": f"{user_ids[0]}@example.com", "full_name": None, "role": Role.MEMBER}
    await service.change_user(database, actor, user_ids[0], values)


async def delete(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    await service.delete_rows(database, actor, user_ids, User)


@pytest.mark.parametrize("change", [service.disable_users, demote, demote_in_form, delete])
async def test_one_admin_stays_when_two_take_each_others_rights_at_once(
    state: State, database: Database, change: Change
) -> None:
    emails = ("ada@example.com", "eve@example.com")
    actors = [Actor(await add_admin(state, email), email, None, None) for email in emails]
    async with database.transaction() as session:
        # Both begin before either is done.
        await session.execute(select(User).with_for_update())
        changes = asyncio.gather(
            change(database, actors[0], [actors[1].id]),
            change(database, actors[1], [actors[0].id]),
            return_exceptions=True,
        )
        await wait_until_blocked(database, 2)
    results = await changes
    assert [type(result) for result in results if result is not None] == [ForbiddenError]
    is_admin = (User.role == Role.ADMIN) & User.disabled_at.is_(None)
    assert await database.read_one(select(func.count()).where(is_admin)) == (1,)


async def test_change_is_refused_when_the_actor_was_disabled_meanwhile(
    state: State, database: Database
) -> None:
    actor = Actor(await add_admin(state), "root@example.com", None, None)
    other = await add_admin(state, "eve@example.com")
    async with database.transaction() as session:
        disable = update(User).where(User.id == actor.id)
        await session.execute(disable.values(disabled_at=func.now()))
    with pytest.raises(ForbiddenError):
        await service.enable_users(database, actor, [other])
