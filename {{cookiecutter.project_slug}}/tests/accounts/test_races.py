"""Two things at once to one account: both end well, and the stricter one wins."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import column, delete, func, select, table, update

from app.accounts.models import EmailToken, Session, User
from app.accounts.passwords import PasswordHasher
from app.accounts.tokens import hash_opaque_token, new_opaque_token
from app.database import Database
from app.lifespan import State
from app.settings import Settings
from tests.accounts.test_router import log_in
from tests.conftest import PASSWORD, SignedInUser

ROUNDS = 8


@pytest.fixture
def database(committing_database: Database) -> Database:
    return committing_database


class InterruptedHasher(PasswordHasher):
    """Lets something happen to the account while a password is being verified."""

    def __init__(self, settings: Settings, database: Database, user_id: UUID) -> None:
        super().__init__(settings)
        self._database, self._user_id = database, user_id
        self.changes: dict[str, object] = {}

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        verified = await super().verify(password, password_hash)
        async with self._database.transaction() as session:
            change = update(User).where(User.id == self._user_id)
            await session.execute(change.values(**self.changes))
        return verified


@pytest.fixture
def hasher(settings: Settings, state: State, user: SignedInUser) -> InterruptedHasher:
    interrupted = InterruptedHasher(settings, state["database"], user.id)
    state["authenticator"] = replace(state["authenticator"], hasher=interrupted)
    return interrupted


async def post(client: AsyncClient, path: str, token: str) -> Response:
    return await client.post(f"/api/v1/auth/{path}", json={"refresh_token": token})


async def test_nothing_fails_when_sessions_are_ended_while_they_are_refreshed(
    client: AsyncClient, user: SignedInUser
) -> None:
    for _ in range(ROUNDS):
        pairs = [(await log_in(client)).json() for _ in range(3)]
        headers = {"Authorization": f"Bearer {pairs[0]['access_token']}"}
        answers = await asyncio.gather(
            *(post(client, "refresh", pair["refresh_token"]) for pair in pairs),
            *(client.post("/api/v1/auth/logout-all", headers=headers) for _ in range(2)),
            *(post(client, "logout", pair["refresh_token"]) for pair in pairs),
        )
        assert {answer.status_code for answer in answers} <= {200, 204, 401}
        last = await client.get("/api/v1/users/me", headers=headers)
        assert last.status_code == 401


async def test_refresh_waits_for_whoever_ends_its_session(
    client: AsyncClient, state: State, user: SignedInUser
) -> None:
    token = (await log_in(client)).json()["refresh_token"]
    async with state["database"].transaction() as session:
        # The two steps of a DELETE: the session, then by the foreign key its tokens.
        await session.execute(select(Session.id).with_for_update())
        refresh = asyncio.create_task(post(client, "refresh", token))
        await wait_until_blocked(state["database"])
        await session.execute(delete(Session))
    assert (await refresh).status_code == 401


async def wait_until_blocked(database: Database, count: int = 1) -> None:
    activity = table("pg_stat_activity", column("datname"), column("wait_event_type"))
    blocked = select(activity.c.datname).where(
        activity.c.datname == func.current_database(), activity.c.wait_event_type == "Lock"
    )
    async with asyncio.timeout(10):
        while len(await database.read_all(blocked)) < count:
            pass  # each turn waits for PostgreSQL


@pytest.mark.parametrize("column", ["password_hash", "disabled_at"])
async def test_login_is_refused_when_the_account_is_changed_while_it_is_checked(
    client: AsyncClient, hasher: InterruptedHasher, column: str
) -> None:
    another = await hasher.hash("another good one")
    hasher.changes = {column: another if column == "password_hash" else func.now()}
    response = await log_in(client)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert (await log_in(client)).status_code == 401


async def test_new_password_stays_when_a_login_renews_the_hash_of_the_old_one(
    client: AsyncClient, settings: Settings, hasher: InterruptedHasher
) -> None:
    dearer = settings.model_copy(update={"password_time_cost": 2})
    another = await PasswordHasher(dearer).hash("another good one")
    hasher._hash = PasswordHasher(dearer)._hash  # so that the login wants to renew the hash
    hasher.changes = {"password_hash": another}
    assert (await log_in(client)).status_code == 503
    hasher.changes = {"full_name": "Ada"}
    assert (await log_in(client, "another good one")).status_code == 200


async def test_password_change_is_refused_when_another_one_was_first(
    client: AsyncClient, user: SignedInUser, hasher: InterruptedHasher
) -> None:
    hasher.changes = {"password_hash": await hasher.hash("another good one")}
    body = {"current_password": PASSWORD, "new_password": "a third one, also good"}
    response = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
    assert response.status_code == 503
    hasher.changes = {"full_name": "Ada"}
    assert (await log_in(client, "another good one")).status_code == 200


async def test_two_links_of_one_user_are_spent_at_once(
    client: AsyncClient, state: State, user: SignedInUser
) -> None:
    for number in range(ROUNDS):
        tokens = await _reset_tokens(state, user)
        password = f"another good one {number}"
        race = (
            client.post(
                "/api/v1/auth/password-reset", json={"token": token, "new_password": password}
            )
            for token in tokens
        )
        answers = await asyncio.gather(*race)
        assert sorted(answer.status_code for answer in answers) == [204, 403]


async def _reset_tokens(state: State, user: SignedInUser) -> list[str]:
    tokens = [new_opaque_token() for _ in range(2)]
    later = datetime.now(UTC) + timedelta(hours=1)
    async with state["database"].transaction() as session:
        for token in tokens:
            hashed, purpose = hash_opaque_token(token), "reset-password"
            session.add(
                EmailToken(token_hash=hashed, user_id=user.id, purpose=purpose, expires_at=later)
            )
    return tokens
