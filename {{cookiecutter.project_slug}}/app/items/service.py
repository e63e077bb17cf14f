"""What users do with their items. Somebody else's item does not exist."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import NotFoundError
from app.items import repository
from app.items.models import Item
from app.items.schemas import ItemCreate, ItemOut, ItemPage, ItemUpdate
from app.pagination import decode_cursor, encode_cursor


async def create_item(session: AsyncSession, owner_id: UUID, body: ItemCreate) -> Item:
    item = Item(owner_id=owner_id, title=body.title, description=body.description)
    await repository.add_item(session, item)
    return item


async def read_item(database: Database, owner_id: UUID, item_id: UUID) -> ItemOut:
    row = await repository.get_item(database, owner_id, item_id)
    if row is None:
        raise _not_found()
    return ItemOut.model_validate(row)


async def list_items(
    database: Database, owner_id: UUID, cursor: str | None, limit: int
) -> ItemPage:
    # One row more than asked for tells whether there is another page.
    rows = await repository.list_items(database, owner_id, decode_cursor(cursor), limit + 1)
    items = [ItemOut.model_validate(row) for row in rows[:limit]]
    next_cursor = encode_cursor(items[-1].id) if len(rows) > limit else None
    return ItemPage(items=items, next_cursor=next_cursor)


async def update_item(
    session: AsyncSession, owner_id: UUID, item_id: UUID, body: ItemUpdate
) -> Item:
    item = await _owned_item(session, owner_id, item_id)
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(item, name, value)
    await session.flush()
    await session.refresh(item)
    return item


async def delete_item(session: AsyncSession, owner_id: UUID, item_id: UUID) -> None:
    await repository.delete_item(session, await _owned_item(session, owner_id, item_id))


async def _owned_item(session: AsyncSession, owner_id: UUID, item_id: UUID) -> Item:
    item = await repository.get_item_for_update(session, owner_id, item_id)
    if item is None:
        raise _not_found()
    return item


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such item.")
