"""What tests of the admin app do there, as a browser would."""

from typing import cast
from uuid import UUID

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import select

from app.accounts import service as accounts
from app.accounts.roles import Role
from app.accounts.schemas import UserCreate
from app.admin.models import AuditEntry
from app.lifespan import State
from tests.conftest import PASSWORD, SignedInUser

OWN_ORIGIN = {"Origin": "http://service"}
ADMIN_EMAIL = "root@example.com"


async def add_admin(state: State, email: str = ADMIN_EMAIL) -> UUID:
    body = UserCreate.model_validate({"email": email, "password": PASSWORD})
    database, hasher = state["database"], state["authenticator"].hasher
    return (await accounts.register_user(database, hasher, body, role=Role.ADMIN)).id


async def log_in(
    client: AsyncClient, email: str = ADMIN_EMAIL, password: str = PASSWORD
) -> Response:
    form = {"username": email, "password": password}
    return await client.post("/admin/login", data=form, headers=OWN_ORIGIN)


@pytest.fixture
async def admin_id(state: State) -> UUID:
    return await add_admin(state)


@pytest.fixture
async def admin(client: AsyncClient, admin_id: UUID) -> AsyncClient:
    assert (await log_in(client)).headers["location"] == "http://service/admin/"
    return client


async def act(admin: AsyncClient, action: str, user_id: UUID) -> Response:
    path = f"/admin/user/action/{action}"
    return await admin.post(path, data={"pks": str(user_id)}, headers=OWN_ORIGIN)


Entry = tuple[str, str, dict[str, object] | None, dict[str, object] | None]


async def entries(state: State) -> list[Entry]:
    columns = (AuditEntry.actor_email, AuditEntry.action, AuditEntry.before, AuditEntry.after)
    async with state["database"].transaction() as session:
        rows = await session.execute(select(*columns).order_by(AuditEntry.id))
        return [cast("Entry", tuple(row)) for row in rows]


async def session_of(admin: AsyncClient, user: SignedInUser) -> str:
    (session,) = (await admin.get("/api/v1/auth/sessions", headers=user.headers)).json()
    return str(session["id"])
