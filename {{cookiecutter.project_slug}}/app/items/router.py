"""Routes of the items: the worked example to copy."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, Security

from app.accounts.dependencies import get_current_user
from app.accounts.repository import AuthenticatedUser
from app.accounts.roles import ITEMS_READ, ITEMS_WRITE
from app.database import DatabaseDep, SessionDep
from app.errors import problem_responses
from app.items import service
from app.items.schemas import ItemCreate, ItemOut, ItemPage, ItemQuery, ItemUpdate
from app.openapi import path_of

router = APIRouter(prefix="/items", tags=["items"], responses=problem_responses(401, 403))

ReaderDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[ITEMS_READ])]
WriterDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[ITEMS_WRITE])]


@router.post("", status_code=201)
async def create_item(
    request: Request, response: Response, user: WriterDep, database: DatabaseDep, body: ItemCreate
) -> ItemOut:
    """Create an item."""
    item = await service.create_item(database, user.id, body)
    response.headers["Location"] = path_of(request, router, item.id)
    return item


@router.get("")
async def list_items(
    database: DatabaseDep, user: ReaderDep, query: Annotated[ItemQuery, Query()]
) -> ItemPage:
    """Your items, newest first."""
    return await service.list_items(database, user.id, query)


@router.get("/{item_id}", responses=problem_responses(404))
async def read_item(database: DatabaseDep, user: ReaderDep, item_id: UUID) -> ItemOut:
    """One of your items."""
    return await service.read_item(database, user.id, item_id)


@router.patch("/{item_id}", responses=problem_responses(404))
async def update_item(
    user: WriterDep, session: SessionDep, item_id: UUID, body: ItemUpdate
) -> ItemOut:
    """Change the fields that are sent."""
    return await service.update_item(session, user.id, item_id, body)


@router.delete("/{item_id}", status_code=204, responses=problem_responses(404))
async def delete_item(user: WriterDep, session: SessionDep, item_id: UUID) -> None:
    """Delete one of your items."""
    await service.delete_item(session, user.id, item_id)
