"""What users do with their items. Somebody else's item does not exist."""

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import NotFoundError
from app.items import repository
from app.items.models import Item
from app.items.schemas import ItemCreate, ItemOut, ItemPage, ItemQuery, ItemUpdate

_NOT_FOUND = "There is no such item."


async def create_item(database: Database, owner_id: UUID, body: ItemCreate) -> ItemOut:
    values = {**body.model_dump(), "tags": list(set(body.tags))}
    return ItemOut.model_validate(await repository.create_item(database, owner_id, values))


async def read_item(database: Database, owner_id: UUID, item_id: UUID) -> ItemOut:
    row = await repository.get_item(database, owner_id, item_id)
    if row is None:
        raise NotFoundError(_NOT_FOUND)
    return ItemOut.model_validate(row)


async def list_items(database: Database, owner_id: UUID, query: ItemQuery) -> ItemPage:
    return ItemPage.of(await repository.list_items(database, owner_id, query), query)


async def update_item(
    session: AsyncSession, owner_id: UUID, item_id: UUID, body: ItemUpdate
) -> ItemOut:
    item = await _get_own_item(session, owner_id, item_id)
    # Tags alone would leave the row of the item as it is.
    changes = {**body.model_dump(exclude_unset=True), "updated_at": func.now()}
    for name, value in changes.items():
        setattr(item, name, value)
    await session.flush()
    return ItemOut.model_validate(item)


async def delete_item(session: AsyncSession, owner_id: UUID, item_id: UUID) -> None:
    await session.delete(await _get_own_item(session, owner_id, item_id))


async def _get_own_item(session: AsyncSession, owner_id: UUID, item_id: UUID) -> Item:
    item = await repository.get_item_for_update(session, owner_id, item_id)
    if item is None:
        raise NotFoundError(_NOT_FOUND)
    return item
