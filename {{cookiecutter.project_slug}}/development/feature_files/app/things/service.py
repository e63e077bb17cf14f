"""What users do with their {things}. Somebody else's {thing} does not exist."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import NotFoundError
from app.schemas import PageQuery
from app.things import repository
from app.things.models import Thing
from app.things.schemas import ThingCreate, ThingOut, ThingPage, ThingUpdate

_NOT_FOUND = "There is no such {thing}."


async def create_thing(session: AsyncSession, owner_id: UUID, body: ThingCreate) -> ThingOut:
    thing = Thing(owner_id=owner_id, **body.model_dump())
    session.add(thing)
    await session.flush()
    return ThingOut.model_validate(thing)


async def read_thing(database: Database, owner_id: UUID, thing_id: UUID) -> ThingOut:
    row = await repository.get_thing(database, owner_id, thing_id)
    if row is None:
        raise NotFoundError(_NOT_FOUND)
    return ThingOut.model_validate(row)


async def list_things(database: Database, owner_id: UUID, query: PageQuery) -> ThingPage:
    return ThingPage.of(await repository.list_things(database, owner_id, query), query)


async def update_thing(
    session: AsyncSession, owner_id: UUID, thing_id: UUID, body: ThingUpdate
) -> ThingOut:
    thing = await _get_own(session, owner_id, thing_id)
    for field, value in body.model_dump(exclude_unset=True).items():
        setattr(thing, field, value)
    await session.flush()
    return ThingOut.model_validate(thing)


async def delete_thing(session: AsyncSession, owner_id: UUID, thing_id: UUID) -> None:
    await session.delete(await _get_own(session, owner_id, thing_id))


async def _get_own(session: AsyncSession, owner_id: UUID, thing_id: UUID) -> Thing:
    thing = await repository.lock_thing(session, owner_id, thing_id)
    if thing is None:
        raise NotFoundError(_NOT_FOUND)
    return thing
