"""SQL of the {things}. Reads return rows, writes ORM objects."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.schemas import PageQuery
from app.things.models import Thing


class ThingRow(NamedTuple):
    id: UUID
    name: str
    created_at: datetime


_COLUMNS = (Thing.id, Thing.name, Thing.created_at)
_OWN = select(*_COLUMNS).where(Thing.owner_id == bindparam("owner_id"))
_THING = _OWN.where(Thing.id == bindparam("thing_id"))
_PAGE = (
    _OWN.where(Thing.id < bindparam("before_id"))
    .order_by(Thing.id.desc())
    .limit(bindparam("row_count"))
)


async def get_thing(database: Database, owner_id: UUID, thing_id: UUID) -> ThingRow | None:
    row = await database.read_one(_THING, {"owner_id": owner_id, "thing_id": thing_id})
    return ThingRow(*row) if row else None


async def list_things(database: Database, owner_id: UUID, query: PageQuery) -> Sequence[ThingRow]:
    page = {"before_id": query.before_id, "row_count": query.row_count}
    rows = await database.read_all(_PAGE, {"owner_id": owner_id, **page})
    return [ThingRow(*row) for row in rows]


async def lock_thing(session: AsyncSession, owner_id: UUID, thing_id: UUID) -> Thing | None:
    own = select(Thing).where(Thing.id == thing_id, Thing.owner_id == owner_id)
    return (await session.scalars(own.with_for_update())).one_or_none()
