"""Routes of the {things}."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, Security

from app.accounts.dependencies import get_current_user
from app.accounts.repository import AuthenticatedUser
from app.accounts.roles import THINGS_READ, THINGS_WRITE
from app.database import DatabaseDep, SessionDep
from app.errors import problem_responses
from app.openapi import path_of
from app.schemas import PageQuery
from app.things import service
from app.things.schemas import ThingCreate, ThingOut, ThingPage, ThingUpdate

router = APIRouter(prefix="/things", tags=["{things}"], responses=problem_responses(401, 403))

ReaderDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[THINGS_READ])]
WriterDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[THINGS_WRITE])]


@router.post("", status_code=201)
async def create_thing(
    request: Request, response: Response, user: WriterDep, session: SessionDep, body: ThingCreate
) -> ThingOut:
    thing = await service.create_thing(session, user.id, body)
    response.headers["Location"] = path_of(request, router, thing.id)
    return thing


@router.get("")
async def list_things(
    database: DatabaseDep, user: ReaderDep, query: Annotated[PageQuery, Query()]
) -> ThingPage:
    """Your {things}, newest first."""
    return await service.list_things(database, user.id, query)


@router.get("/{thing_id}", responses=problem_responses(404))
async def read_thing(database: DatabaseDep, user: ReaderDep, thing_id: UUID) -> ThingOut:
    return await service.read_thing(database, user.id, thing_id)


@router.patch("/{thing_id}", responses=problem_responses(404))
async def update_thing(
    user: WriterDep, session: SessionDep, thing_id: UUID, body: ThingUpdate
) -> ThingOut:
    """Change the fields that are sent."""
    return await service.update_thing(session, user.id, thing_id, body)


@router.delete("/{thing_id}", status_code=204, responses=problem_responses(404))
async def delete_thing(user: WriterDep, session: SessionDep, thing_id: UUID) -> None:
    await service.delete_thing(session, user.id, thing_id)
