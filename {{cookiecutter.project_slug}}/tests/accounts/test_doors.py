"""Emails and passwords mean the same at every door: sign-up, login, change, reset, admin."""

import pytest
from httpx2 import AsyncClient

from app.accounts import service
from app.accounts.roles import Role
from app.accounts.schemas import UserCreate
from app.lifespan import State
from tests.accounts.test_email_links import ask_for_reset, client, reset, state, token_in_last_mail
from tests.accounts.test_router import log_in
from tests.admins import log_in as log_in_to_admin
from tests.conftest import PASSWORD, SignedInUser
from tests.mailbox import Mailbox

__all__ = ["client", "state"]

SPACED = "  with spaces around \t"


async def test_password_is_taken_as_typed_when_signing_up(client: AsyncClient) -> None:
    body = {"email": "ada@example.com", "password": SPACED}
    assert (await client.post("/api/v1/users", json=body)).status_code == 201
    assert (await log_in(client, SPACED)).status_code == 200
    assert (await log_in(client, SPACED.strip())).status_code == 401


async def test_password_is_taken_as_typed_when_it_is_changed(
    client: AsyncClient, user: SignedInUser
) -> None:
    for current, new in ((PASSWORD, SPACED), (SPACED, "another good one")):
        body = {"current_password": current, "new_password": new}
        response = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
        assert response.status_code == 204
        assert (await log_in(client, new, user.email)).status_code == 200


async def test_password_is_taken_as_typed_when_it_is_reset(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, user.email)
    assert (await reset(client, token_in_last_mail(mailbox), SPACED)).status_code == 204
    assert (await log_in(client, SPACED, user.email)).status_code == 200


async def test_password_is_taken_as_typed_when_an_admin_logs_in(
    client: AsyncClient, state: State
) -> None:
    body = UserCreate.model_validate({"email": "root@example.com", "password": SPACED})
    database, hasher = state["database"], state["authenticator"].hasher
    await service.register_user(database, hasher, body, role=Role.ADMIN)
    assert (await log_in_to_admin(client, password=SPACED)).status_code == 302


async def test_new_password_is_refused_when_it_is_the_old_one(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    body = {"current_password": PASSWORD, "new_password": PASSWORD}
    changed = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
    await ask_for_reset(client, user.email)
    was_reset = await reset(client, token_in_last_mail(mailbox), PASSWORD)
    assert (changed.status_code, was_reset.status_code) == (422, 422)


@pytest.mark.parametrize("typed", ["Ada@MÜNCHEN.example", "ada@xn--mnchen-3ya.example"])
@pytest.mark.parametrize("signed_up", ["ada@münchen.example", "ada@XN--MNCHEN-3YA.example"])
async def test_login_works_when_a_domain_is_spelled_in_its_other_way(
    client: AsyncClient, signed_up: str, typed: str
) -> None:
    body = {"email": signed_up, "password": PASSWORD}
    assert (await client.post("/api/v1/users", json=body)).status_code == 201
    assert (await log_in(client, PASSWORD, typed)).status_code == 200
