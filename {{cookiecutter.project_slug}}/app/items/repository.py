"""SQL of the items. Single statements return rows, transactions ORM objects."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Text, bindparam, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.database import Database
from app.events.recording import write_followed
from app.events.repository import with_event
from app.items.models import Item, ItemTag
from app.items.schemas import ItemQuery


class ItemRow(NamedTuple):
    id: UUID
    title: str
    description: str | None
    status: str
    price: Decimal | None
    due_on: date | None
    tags: Sequence[str]
    created_at: datetime
    updated_at: datetime


# In the order of `ItemRow`.
_BEFORE_TAGS = (Item.id, Item.title, Item.description, Item.status, Item.price, Item.due_on)
_STATUS, _SEARCH = bindparam("status", type_=Text), bindparam("search", type_=Text)
# Built once: building a statement for every call costs about 400 us.
_OWN = select(
    *_BEFORE_TAGS,
    # In the same statement, whatever the number of items.
    func.array(
        select(ItemTag.name).where(ItemTag.item_id == Item.id).scalar_subquery(),
        type_=ARRAY(Text),
    ),
    Item.created_at,
    Item.updated_at,
).where(Item.owner_id == bindparam("owner_id"))
_ITEM = _OWN.where(Item.id == bindparam("item_id"))
# A filter that is not sent is NULL, so all of them together need one prepared statement.
_PAGE = (
    _OWN.where(
        Item.id < bindparam("before_id"),
        or_(_STATUS.is_(None), Item.status == _STATUS),
        or_(_SEARCH.is_(None), func.strpos(func.lower(Item.title), func.lower(_SEARCH)) > 0),
    )
    .order_by(Item.id.desc())
    .limit(bindparam("row_count"))
)


_TAGS = bindparam("tags", type_=ARRAY(Text))
_NEW = ("id", "owner_id", "title", "description", "status", "price", "due_on")
_created = (
    insert(Item)
    .values({name: bindparam(name) for name in _NEW})
    .returning(
        *_BEFORE_TAGS,
        _TAGS.label("tags"),
        Item.created_at,
        Item.updated_at,
        Item.owner_id,
    )
    .cte("created")
)
_tagged = insert(ItemTag).from_select(
    ["item_id", "name"], select(_created.c.id, func.unnest(_TAGS))
)
# The item, its tags and its event in one statement: a session and its flush cost 2 ms.
_CREATE = with_event(_created, "item.created").add_cte(_tagged.cte("tagged"))


async def create_item(database: Database, owner_id: UUID, values: Mapping[str, object]) -> ItemRow:
    given = {**values, "id": uuid7(), "owner_id": owner_id}
    row = await write_followed(database, _CREATE, owner_id, given)
    return ItemRow._make(row[:-1])


async def get_item(database: Database, owner_id: UUID, item_id: UUID) -> ItemRow | None:
    row = await database.read_one(_ITEM, {"item_id": item_id, "owner_id": owner_id})
    return ItemRow(*row) if row else None


async def list_items(database: Database, owner_id: UUID, query: ItemQuery) -> Sequence[ItemRow]:
    parameters = {
        "owner_id": owner_id,
        "before_id": query.before_id,
        "status": query.status,
        "search": query.search,
        "row_count": query.row_count,
    }
    return [ItemRow(*row) for row in await database.read_all(_PAGE, parameters)]


async def get_item_for_update(session: AsyncSession, owner_id: UUID, item_id: UUID) -> Item | None:
    statement = select(Item).where(Item.id == item_id, Item.owner_id == owner_id).with_for_update()
    return (await session.scalars(statement)).one_or_none()
