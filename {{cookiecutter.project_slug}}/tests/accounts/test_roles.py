"""What each role may do, and that the database knows the same roles as the code."""

import pytest
from httpx2 import AsyncClient
from jose import jwt
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from app.accounts.models import User
from app.accounts.roles import Role
from app.database import Database
from tests.accounts.test_router import log_in
from tests.conftest import SignedInUser


async def give_role(database: Database, user: SignedInUser, role: str) -> None:
    statement = update(User).where(User.id == user.id).values(role=role)
    async with database.transaction() as session:
        await session.execute(statement)


@pytest.mark.parametrize("role", Role)
async def test_login_grants_the_scopes_of_the_role(
    client: AsyncClient, database: Database, user: SignedInUser, role: Role
) -> None:
    await give_role(database, user, role)
    token = (await log_in(client)).json()["access_token"]
    granted = jwt.get_unverified_claims(token)["scope"].split()
    assert sorted(granted) == sorted(role.scopes)
    assert ("admin" in granted) == (role is Role.ADMIN)


async def test_role_is_refused_when_the_migrations_do_not_know_it(
    database: Database, user: SignedInUser
) -> None:
    with pytest.raises(IntegrityError, match="ck_app_user_role"):
        await give_role(database, user, "emperor")
