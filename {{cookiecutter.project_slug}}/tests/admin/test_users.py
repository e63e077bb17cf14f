"""What admins do with users, beyond the actions: creating them and changing their address."""

import re
from datetime import timedelta
from typing import cast

import pytest
from httpx2 import AsyncClient
from sqlalchemy import func, select

from app.accounts.models import EmailToken, User
from app.accounts.tokens import hash_opaque_token
from app.lifespan import State
from tests.accounts.test_router import log_in as log_in_to_api
from tests.admins import OWN_ORIGIN, act, entries, session_of
from tests.conftest import SignedInUser


async def edit(admin: AsyncClient, user: SignedInUser, email: str) -> int:
    form = {"email": email, "full_name": "Ada", "save": "Save"}
    response = await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    return int(response.status_code)


async def verified(state: State, email: str) -> object:
    query = select(User.email_verified_at).where(User.email == email)
    row = await state["database"].read_one(query)
    return cast("tuple[object]", row)[0]


@pytest.fixture
async def reset_token(state: State, user: SignedInUser) -> str:
    """Of a link in the mailbox of a user whose address is verified."""
    token = "t" * 43
    async with state["database"].transaction() as session:
        row = await session.get_one(User, user.id)
        row.email_verified_at = func.now()
        later = func.now() + timedelta(hours=1)
        hashed = hash_opaque_token(token)
        session.add(
            EmailToken(
                token_hash=hashed, user_id=user.id, purpose="reset-password", expires_at=later
            )
        )
    return token


async def test_links_to_the_old_address_are_void_when_it_is_changed(
    admin: AsyncClient, state: State, user: SignedInUser, reset_token: str
) -> None:
    assert await edit(admin, user, "new@example.com") == 302
    assert await verified(state, "new@example.com") is None
    body = {"token": reset_token, "new_password": "another good one"}
    response = await admin.post("/api/v1/auth/password-reset", json=body)
    assert response.status_code == 403


async def test_address_stays_verified_when_something_else_is_changed(
    admin: AsyncClient, state: State, user: SignedInUser, reset_token: str
) -> None:
    assert await edit(admin, user, user.email) == 302
    assert await verified(state, user.email) is not None


async def test_user_is_created_and_cannot_log_in_before_a_reset(
    admin: AsyncClient, state: State
) -> None:
    form = {"email": "ada@example.com", "full_name": "", "save": "Save"}
    response = await admin.post("/admin/user/create", data=form, headers=OWN_ORIGIN)
    assert response.status_code == 302
    assert (await log_in_to_api(admin)).status_code == 401
    _, action, before, after = (await entries(state))[-1]
    assert (action, before, after and after["email"]) == ("create", None, "ada@example.com")
    assert after
    assert "password_hash" not in after


async def test_user_is_not_created_when_the_email_is_taken(
    admin: AsyncClient, user: SignedInUser
) -> None:
    form = {"email": user.email, "save": "Save"}
    response = await admin.post("/admin/user/create", data=form, headers=OWN_ORIGIN)
    assert (response.status_code, "already" in response.text) == (400, True)


async def test_form_does_not_tell_what_the_database_said_when_a_change_fails(
    admin: AsyncClient, user: SignedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise RuntimeError("UPDATE app_user SET secret")

    monkeypatch.setattr("app.admin.service.change_user", fail)
    form = {"email": user.email, "save": "Save"}
    response = await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    assert "Something went wrong" in response.text
    assert "UPDATE" not in response.text


async def test_only_actions_that_do_something_are_offered(
    admin: AsyncClient, user: SignedInUser
) -> None:
    page = f"/admin/user/details/{user.id}"
    assert _actions((await admin.get(page)).text) == ["disable", "end-sessions", "make-admin"]
    await act(admin, "disable", user.id)
    await act(admin, "make-admin", user.id)
    offered = ["enable", "end-sessions", "make-member", "reset-second-factor"]
    assert _actions((await admin.get(page)).text) == offered


async def test_session_of_an_admin_tells_where_it_comes_from(
    admin: AsyncClient, state: State
) -> None:
    page = (await admin.get("/admin/session/list")).text
    assert "127.0.0.1" in page


def _actions(page: str) -> list[str]:
    return sorted({*re.findall(r"/action/([a-z-]+)", page)} - {"delete"})


async def test_row_of_a_user_is_shown_with_the_email(
    admin: AsyncClient, user: SignedInUser
) -> None:
    page = (await admin.get(f"/admin/session/details/{await session_of(admin, user)}")).text
    assert f"{user.email}</a>" in page
