"""Registration, login, sessions, through HTTP."""

import asyncio

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient, Response

from app.database import Database
from app.lifespan import build_state
from app.settings import Settings
from tests.conftest import PASSWORD, SignedInUser, connect, sign_up

ADA = {"email": "ada@example.com", "password": PASSWORD}


async def log_in(
    client: AsyncClient, password: str = PASSWORD, email: str = "ada@example.com", **more: str
) -> Response:
    form = {"username": email, "password": password, **more}
    return await client.post("/api/v1/auth/token", data=form)


async def refresh(client: AsyncClient, token: str) -> Response:
    return await client.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def read_me(client: AsyncClient, access_token: str) -> Response:
    headers = {"Authorization": f"Bearer {access_token}"}
    return await client.get("/api/v1/users/me", headers=headers)


async def test_register_returns_the_user_without_the_password(client: AsyncClient) -> None:
    response = await client.post("/api/v1/users", json=ADA | {"full_name": "Ada"})
    assert response.status_code == 201
    assert "password" not in response.text
    assert response.json()["email_verified_at"] is None


async def test_register_conflicts_when_the_email_is_known_in_other_case(
    client: AsyncClient, user: SignedInUser
) -> None:
    response = await client.post("/api/v1/users", json=ADA | {"email": "ADA@Example.com"})
    assert response.status_code == 409


@pytest.mark.parametrize(
    "change", [{"role": "admin"}, {"password": "short"}, {"password": "x" * 129}, {"email": "a@b"}]
)
async def test_register_is_refused_when_a_field_is_wrong(
    client: AsyncClient, change: dict[str, object]
) -> None:
    response = await client.post("/api/v1/users", json=ADA | change)
    assert response.status_code == 422


async def test_login_returns_a_pair_of_tokens(client: AsyncClient, user: SignedInUser) -> None:
    response = await log_in(client)
    assert response.status_code == 200
    assert response.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert response.headers["cache-control"] == "no-store"


async def test_login_fails_alike_when_email_or_password_is_wrong(
    client: AsyncClient, user: SignedInUser
) -> None:
    wrong_password = await log_in(client, "wrong")
    unknown_email = await log_in(client, email="nobody@example.com")
    assert wrong_password.status_code == unknown_email.status_code == 401
    assert wrong_password.json()["detail"] == unknown_email.json()["detail"]


async def test_me_is_read_with_one_statement(
    client: AsyncClient, user: SignedInUser, statements: list[str]
) -> None:
    statements.clear()
    response = await client.get("/api/v1/users/me", headers=user.headers)
    assert response.json()["email"] == user.email
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    assert len(statements) == 1


async def test_me_is_refused_when_no_token_is_sent(client: AsyncClient) -> None:
    response = await client.get("/api/v1/users/me")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


async def test_update_me_changes_the_name(client: AsyncClient, user: SignedInUser) -> None:
    await client.patch("/api/v1/users/me", json={"full_name": "Ada L"}, headers=user.headers)
    response = await client.get("/api/v1/users/me", headers=user.headers)
    assert response.json()["full_name"] == "Ada L"


async def test_update_me_changes_nothing_when_nothing_is_sent(
    client: AsyncClient, user: SignedInUser
) -> None:
    await client.patch("/api/v1/users/me", json={"full_name": "Ada L"}, headers=user.headers)
    response = await client.patch("/api/v1/users/me", json={}, headers=user.headers)
    assert response.json()["full_name"] == "Ada L"


async def test_refresh_returns_a_new_pair(client: AsyncClient, user: SignedInUser) -> None:
    old = (await log_in(client)).json()
    new = (await refresh(client, old["refresh_token"])).json()
    assert new["refresh_token"] != old["refresh_token"]
    assert (await read_me(client, new["access_token"])).status_code == 200


async def test_refresh_is_refused_when_the_token_is_spent(
    client: AsyncClient, user: SignedInUser
) -> None:
    old = (await log_in(client)).json()
    await refresh(client, old["refresh_token"])
    assert (await refresh(client, old["refresh_token"])).status_code == 401


async def test_session_ends_when_a_spent_token_comes_back_after_the_grace(
    app: FastAPI, settings: Settings, committing_database: Database
) -> None:
    strict = settings.model_copy(update={"refresh_reuse_grace_seconds": 0})
    state = build_state(strict, committing_database)
    await sign_up(state, "ada@example.com")
    async with connect(app, state) as client:
        old = (await log_in(client)).json()
        new = (await refresh(client, old["refresh_token"])).json()
        assert (await refresh(client, old["refresh_token"])).status_code == 401
        assert (await read_me(client, new["access_token"])).status_code == 401


async def test_exactly_one_wins_when_a_refresh_token_is_raced(
    app: FastAPI, settings: Settings, committing_database: Database
) -> None:
    state = build_state(settings, committing_database)
    await sign_up(state, "ada@example.com")
    async with connect(app, state) as client:
        token = (await log_in(client)).json()["refresh_token"]
        answers = await asyncio.gather(*(refresh(client, token) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200, 401}
        (winner,) = (answer for answer in answers if answer.status_code == 200)
        assert (await read_me(client, winner.json()["access_token"])).status_code == 200


async def test_access_token_stops_working_when_its_session_is_logged_out(
    client: AsyncClient, user: SignedInUser
) -> None:
    pair = (await log_in(client)).json()
    body = {"refresh_token": pair["refresh_token"]}
    assert (await client.post("/api/v1/auth/logout", json=body)).status_code == 204
    assert (await read_me(client, pair["access_token"])).status_code == 401
    assert (await refresh(client, pair["refresh_token"])).status_code == 401
    assert (await client.get("/api/v1/users/me", headers=user.headers)).status_code == 200


async def test_logout_all_ends_every_session(client: AsyncClient, user: SignedInUser) -> None:
    pair = (await log_in(client)).json()
    response = await client.post("/api/v1/auth/logout-all", headers=user.headers)
    assert response.status_code == 204
    assert (await read_me(client, pair["access_token"])).status_code == 401


async def test_password_change_ends_the_other_sessions(
    client: AsyncClient, user: SignedInUser
) -> None:
    other = (await log_in(client)).json()
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    response = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
    assert response.status_code == 204
    assert (await read_me(client, other["access_token"])).status_code == 401
    assert (await client.get("/api/v1/users/me", headers=user.headers)).status_code == 200
    assert (await log_in(client, "another good one")).status_code == 200


async def test_password_change_is_refused_when_the_current_one_is_wrong(
    client: AsyncClient, user: SignedInUser
) -> None:
    body = {"current_password": "wrong", "new_password": "another good one"}
    response = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
    assert response.status_code == 403


async def test_key_set_is_empty_when_a_shared_secret_signs(client: AsyncClient) -> None:
    assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}
