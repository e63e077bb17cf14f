"""Sessions and scopes, through HTTP."""

import hashlib
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from jose import jwt
from sqlalchemy import func, select, text, update

from app.accounts.dependencies import AdminDep
from app.accounts.models import RefreshToken, Session, User
from app.accounts.roles import Role
from app.database import Database
from app.housekeeping import purge
from app.lifespan import State, build_state
from app.main import create_app
from app.settings import Settings
from tests.accounts.test_router import log_in, read_me, refresh
from tests.conftest import PASSWORD, SignedInUser, connect, sign_up

HOUR = timedelta(hours=1)
SESSIONS = "/api/v1/auth/sessions"
# One less than a session may have in an hour.
MANY_REFRESHES = text(
    "INSERT INTO refresh_token (token_hash, session_id, used_at)"
    " SELECT sha256(token_hash || int4send(n)), session_id, now()"
    " FROM refresh_token, generate_series(1, 119) AS n"
)


def bearer(response: Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def write(database: Database, **values: object) -> None:
    async with database.transaction() as session:
        await session.execute(update(User).values(**values))


async def test_sessions_are_listed_with_the_last_used_first(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    async with database.transaction() as session:
        await session.execute(update(Session).values(last_used_at=func.now() - timedelta(days=1)))
    form = {"username": user.email, "password": PASSWORD}
    headers = {"User-Agent": "Firefox/\x7f" + "x" * 300}
    here = bearer(await client.post("/api/v1/auth/token", data=form, headers=headers))
    listed = (await client.get(SESSIONS, headers=here)).json()
    assert [session["current"] for session in listed] == [True, False]
    assert listed[0]["user_agent"] == "Firefox/" + "x" * 191
    assert listed[0]["address"] == "127.0.0.1"
    assert listed[0]["last_used_at"] >= listed[0]["created_at"]


async def test_refresh_is_the_last_use_of_its_session(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    pair = (await log_in(client)).json()
    async with database.transaction() as session:
        long_ago = func.now() - timedelta(days=1)
        await session.execute(update(Session).values(last_used_at=long_ago, address=None))
    renewed = await refresh(client, pair["refresh_token"])
    listed = (await client.get(SESSIONS, headers=bearer(renewed))).json()
    assert [session["current"] for session in listed] == [True, False]
    assert [session["address"] for session in listed] == ["127.0.0.1", None]


async def test_refresh_token_is_stored_as_a_hash(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    token = (await log_in(client)).json()["refresh_token"]
    rows = await database.read_all(select(RefreshToken.token_hash))
    assert hashlib.sha256(token.encode()).digest() in {row[0] for row in rows}


async def test_session_is_ended_by_its_owner(client: AsyncClient, user: SignedInUser) -> None:
    other = await log_in(client)
    listed = (await client.get(SESSIONS, headers=bearer(other))).json()
    (id_,) = (session["id"] for session in listed if session["current"])
    response = await client.delete(f"{SESSIONS}/{id_}", headers=user.headers)
    assert response.status_code == 204
    assert (await read_me(client, other.json()["access_token"])).status_code == 401
    assert (await refresh(client, other.json()["refresh_token"])).status_code == 401


async def test_session_is_unknown_when_it_is_somebody_elses(
    client: AsyncClient, user: SignedInUser, stranger: SignedInUser
) -> None:
    (session,) = (await client.get(SESSIONS, headers=user.headers)).json()
    response = await client.delete(f"{SESSIONS}/{session['id']}", headers=stranger.headers)
    assert response.status_code == 404
    assert (await client.get(SESSIONS, headers=user.headers)).status_code == 200


async def test_access_ends_at_once_when_the_user_is_disabled(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    pair = (await log_in(client)).json()
    await write(database, disabled_at=func.now())
    assert (await read_me(client, pair["access_token"])).status_code == 401
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    assert (await log_in(client)).status_code == 401


async def test_purge_deletes_expired_sessions(
    user: SignedInUser, database: Database, settings: Settings
) -> None:
    async with database.transaction() as session:
        expired = func.now() - timedelta(seconds=1)
        await session.execute(update(Session).values(expires_at=expired))
    await purge(database, settings)
    assert await database.read_one(select(func.count()).select_from(Session)) == (0,)


async def test_login_grants_everything_the_user_may_when_no_scope_is_asked_for(
    client: AsyncClient, user: SignedInUser
) -> None:
    pair = await log_in(client)
    assert "scope" not in pair.json()
    assert (await client.get(SESSIONS, headers=bearer(pair))).status_code == 200


async def test_token_is_only_good_for_the_scopes_asked_for(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    await write(database, role=Role.ADMIN)
    pair = await log_in(client, scope="admin")
    assert (await read_me(client, pair.json()["access_token"])).status_code == 200
    response = await client.get(SESSIONS, headers=bearer(pair))
    assert response.status_code == 403
    assert "insufficient_scope" in response.headers["www-authenticate"]


async def test_refresh_widens_no_scope(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    await write(database, role=Role.ADMIN)
    pair = await log_in(client, scope="admin")
    renewed = await refresh(client, pair.json()["refresh_token"])
    assert (await client.get(SESSIONS, headers=bearer(renewed))).status_code == 403


async def test_login_tells_the_scope_when_it_is_less_than_asked_for(
    client: AsyncClient, user: SignedInUser
) -> None:
    response = await log_in(client, scope="account admin invented")
    assert response.json()["scope"] == "account"
    granted = jwt.get_unverified_claims(response.json()["access_token"])
    assert granted["scope"] == "account"


async def test_login_is_refused_when_no_scope_can_be_granted(
    client: AsyncClient, user: SignedInUser
) -> None:
    assert (await log_in(client, scope="admin")).json()["error"] == "invalid_scope"


@pytest.mark.parametrize("role", Role)
async def test_admin_route_looks_at_the_user_and_not_only_at_the_token(
    own_app: FastAPI, state: State, user: SignedInUser, database: Database, role: Role
) -> None:
    @own_app.get("/administration")
    async def administer(admin: AdminDep) -> str:
        return admin.email

    await write(database, role=Role.ADMIN)
    async with connect(own_app, state) as client:
        pair = await log_in(client)
        await write(database, role=role)
        response = await client.get("/administration", headers=bearer(pair))
    assert response.status_code == (200 if role is Role.ADMIN else 403)


async def test_login_is_slowed_down_alike_when_the_email_is_unknown(
    app: FastAPI, settings: Settings, committing_database: Database
) -> None:
    tight = settings.model_copy(update={"login_attempts_per_account": 3})
    state = build_state(tight, committing_database)
    await sign_up(state, "ada@example.com")
    async with connect(app, state) as client:
        for email in ("ada@example.com", "nobody@example.com"):
            answers = [await log_in(client, "wrong", email) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
            assert answers[3].headers["retry-after"] == "1"


async def test_authorize_button_finds_the_token_route_below_the_root_path(
    settings: Settings, state: State
) -> None:
    below = create_app(settings.model_copy(update={"root_path": "/service"}))
    async with connect(below, state) as client:
        document = (await client.get("/openapi.json")).json()
        (scheme,) = document["components"]["securitySchemes"].values()
        url = scheme["flows"]["password"]["tokenUrl"]
        assert url == "/service/api/v1/auth/token"
        assert scheme["flows"]["password"]["refreshUrl"] == url
        assert (await client.post(url, data={})).status_code == 400


async def test_session_ends_when_it_is_idle_for_too_long(
    app: FastAPI, settings: Settings, database: Database
) -> None:
    state = build_state(settings.model_copy(update={"refresh_idle_seconds": 3600}), database)
    await sign_up(state, "ada@example.com")
    async with connect(app, state) as client:
        pair = (await log_in(client)).json()
        async with database.transaction() as session:
            # Half an hour passes, and then more than an hour.
            earlier = Session.expires_at - timedelta(minutes=30)
            await session.execute(update(Session).values(expires_at=earlier))
        pair = (await refresh(client, pair["refresh_token"])).json()
        rows = await database.read_all(select(Session.expires_at - Session.last_used_at))
        assert max(row[0] for row in rows) == pytest.approx(HOUR, abs=timedelta(minutes=1))
        async with database.transaction() as session:
            await session.execute(update(Session).values(expires_at=Session.expires_at - 2 * HOUR))
        assert (await refresh(client, pair["refresh_token"])).status_code == 401
        assert (await read_me(client, pair["access_token"])).status_code == 401


async def test_refresh_deletes_tokens_that_were_spent_long_ago(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    pair = (await log_in(client)).json()
    for _ in range(3):
        pair = (await refresh(client, pair["refresh_token"])).json()
        async with database.transaction() as session:
            spent = update(RefreshToken).where(RefreshToken.used_at.is_not(None))
            await session.execute(spent.values(used_at=RefreshToken.used_at - 8 * 24 * HOUR))
    await refresh(client, pair["refresh_token"])
    spent_rows = select(func.count()).where(RefreshToken.used_at.is_not(None))
    assert await database.read_one(spent_rows) == (1,)


async def test_refreshes_of_one_session_are_limited(
    client: AsyncClient, user: SignedInUser, database: Database
) -> None:
    pair = (await log_in(client)).json()
    async with database.transaction() as session:
        await session.execute(MANY_REFRESHES)
    last = await refresh(client, pair["refresh_token"])
    refused = await refresh(client, last.json()["refresh_token"])
    assert (last.status_code, refused.status_code) == (200, 429)
    assert refused.headers["retry-after"] == "60"


async def test_session_ends_within_the_grace_when_another_program_sends_a_spent_token(
    client: AsyncClient, user: SignedInUser
) -> None:
    pair = (await log_in(client)).json()
    renewed = (await refresh(client, pair["refresh_token"])).json()
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    assert (await read_me(client, renewed["access_token"])).status_code == 200
    client.headers["User-Agent"] = "another program"
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    assert (await read_me(client, renewed["access_token"])).status_code == 401
