"""The second factor of administrators, through the pages: no session before both factors."""

import base64
import json
import re
import time
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pyotp
import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from sqlalchemy import func, select, text

from app.accounts.models import Session
from app.admin import half_login
from app.lifespan import State
from app.main import create_app
from app.settings import Settings
from tests.admins import ADMIN_EMAIL, OWN_ORIGIN, act, add_admin, entries, log_in
from tests.conftest import PASSWORD, connect

CODE, SET_UP, OWN = "/admin/login/code", "/admin/login/set-up", "/admin/second-factor"


@pytest.fixture(scope="module")
def required(settings: Settings) -> Settings:
    """Of a service that requires it."""
    return settings.model_copy(update={"admin_totp_required": True})


@pytest.fixture(scope="module")
def strict_app(required: Settings) -> FastAPI:
    return create_app(required)


@pytest.fixture
def strict(required: Settings, state: State) -> State:
    return State(**{**state, "settings": required})


@pytest.fixture
async def client(strict_app: FastAPI, strict: State, admin_id: UUID) -> AsyncIterator[AsyncClient]:
    async with connect(strict_app, strict) as client:
        yield client


async def send(client: AsyncClient, path: str, **form: str) -> Response:
    return await client.post(path, data=form, headers=OWN_ORIGIN)


def secret_of(page: Response) -> str:
    uri = unescape(re.findall(r'id="uri" href="([^"]+)"', page.text)[0])
    assert urlsplit(uri).path.endswith(":root%40example.com")
    return parse_qs(urlsplit(uri).query)["secret"][0]


def code(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * steps)


async def set_up(client: AsyncClient) -> tuple[str, list[str]]:
    """Logs in for the first time; the secret and the recovery codes."""
    await log_in(client)
    secret = secret_of(await client.get(SET_UP))
    page = await send(client, SET_UP, code=code(secret, -1))
    assert page.status_code == 200, page.text
    return secret, re.findall(r"<li><code>([a-z2-7-]+)</code>", page.text)


async def is_in(client: AsyncClient) -> bool:
    return (await client.get("/admin/user/list")).status_code == 200


async def test_first_login_sets_it_up_and_shows_ten_codes(client: AsyncClient) -> None:
    answer = await log_in(client)
    assert answer.headers["location"].endswith(SET_UP)
    assert not await is_in(client)
    _, recovery_codes = await set_up(client)
    assert len(recovery_codes) == 10
    assert await is_in(client)


async def test_password_alone_makes_no_session(client: AsyncClient, state: State) -> None:
    await log_in(client)
    for path in ("", "user/list", "second-factor", "audit-entry/list"):
        assert (await client.get(f"/admin/{path}")).headers["location"].endswith("/admin/login")
    assert await state["database"].read_one(select(func.count()).select_from(Session)) == (0,)


async def test_later_login_asks_for_a_code_that_is_new(client: AsyncClient) -> None:
    secret, _ = await set_up(client)
    await send(client, "/admin/logout")
    assert (await log_in(client)).headers["location"].endswith(CODE)
    # The one that has set it up, a wrong one, and then the one that comes next.
    assert (await send(client, CODE, code=code(secret, -1))).status_code == 400
    assert (await send(client, CODE, code="12345")).status_code == 400
    assert not await is_in(client)
    assert (await send(client, CODE, code=code(secret))).headers["location"].endswith("/admin/")
    assert await is_in(client)


async def test_recovery_code_lets_in_once(client: AsyncClient) -> None:
    _, recovery_codes = await set_up(client)
    answers = []
    for _ in range(2):
        await send(client, "/admin/logout")
        await log_in(client)
        answers.append((await send(client, CODE, code=recovery_codes[0])).status_code)
    assert answers == [303, 400]


async def test_set_up_is_refused_when_there_is_one_already(client: AsyncClient) -> None:
    await set_up(client)
    await log_in(client)
    for answer in (await client.get(SET_UP), await send(client, SET_UP, code="123456")):
        assert answer.headers["location"].endswith(CODE)


async def test_secret_is_another_one_in_every_browser(client: AsyncClient, strict: State) -> None:
    await log_in(client)
    async with connect(create_app(strict["settings"]), strict) as other:
        await log_in(other)
        pages = [await one.get(SET_UP) for one in (client, other, client)]
    first, second, again = map(secret_of, pages)
    assert first == again != second


@pytest.mark.parametrize("path", [CODE, SET_UP])
async def test_page_after_the_password_is_closed_without_it(client: AsyncClient, path: str) -> None:
    for answer in (await client.get(path), await send(client, path, code="123456")):
        assert answer.headers["location"].endswith("/admin/login")


async def test_half_login_expires(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_login, "_SECONDS", -1)
    await log_in(client)
    assert (await client.get(SET_UP)).headers["location"].endswith("/admin/login")


@pytest.mark.parametrize(
    "change", ["password_hash = 'x'", "disabled_at = now()", "email = 'new@example.com'"]
)
async def test_half_login_ends_when_the_account_changes(
    client: AsyncClient, state: State, change: str
) -> None:
    await log_in(client)
    async with state["database"].transaction() as session:
        await session.execute(text(f"UPDATE app_user SET {change}"))  # noqa: S608
    assert (await client.get(SET_UP)).headers["location"].endswith("/admin/login")


async def test_cookie_of_a_half_login_tells_no_secret(client: AsyncClient, state: State) -> None:
    await log_in(client)
    secret = secret_of(await client.get(SET_UP))
    kept = client.cookies["admin_session"].split(".")[0]
    content = base64.b64decode(kept + "==")
    assert secret.encode() not in content
    assert b"argon2" not in content
    assert "session_id" not in json.loads(content)


async def test_codes_are_throttled_apart_from_passwords(client: AsyncClient) -> None:
    secret, _ = await set_up(client)
    await send(client, "/admin/logout")
    await log_in(client)
    answers = [await send(client, CODE, code="000000") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]
    assert answers[-1].headers["retry-after"]
    assert (await send(client, CODE, code=code(secret))).status_code == 429
    assert (await log_in(client)).headers["location"].endswith(CODE)


async def test_turning_it_off_needs_password_and_code(client: AsyncClient, state: State) -> None:
    secret, recovery_codes = await set_up(client)
    for form in (
        {"password": "wrong", "code": recovery_codes[0]},
        {"password": PASSWORD, "code": "000000"},
        {"password": PASSWORD},
    ):
        assert (await send(client, OWN, action="remove", **form)).status_code == 400
    form = {"password": PASSWORD, "code": code(secret)}
    assert (await send(client, OWN, action="remove", **form)).status_code == 303
    assert [action for _, action, _, _ in await entries(state)][-1] == "remove second factor"
    assert (await log_in(client)).headers["location"].endswith(SET_UP)


async def test_new_recovery_codes_void_the_old_ones(client: AsyncClient) -> None:
    secret, old = await set_up(client)
    page = await send(client, OWN, action="renew", password=PASSWORD, code=code(secret))
    new = re.findall(r"<li><code>([a-z2-7-]+)</code>", page.text)
    assert len(new) == 10
    assert not set(new) & set(old)
    await send(client, "/admin/logout")
    await log_in(client)
    assert (await send(client, CODE, code=old[1])).status_code == 400
    assert (await send(client, CODE, code=new[1])).status_code == 303


async def test_second_factor_is_optional_when_it_is_not_required(
    settings: Settings, state: State, admin_id: UUID
) -> None:
    async with connect(create_app(settings), state) as client:
        assert (await log_in(client)).headers["location"].endswith("/admin/")
        secret = secret_of(await client.get(OWN))
        wrong = await send(client, OWN, password="wrong", code=code(secret, -1))
        assert wrong.status_code == 400
        page = await send(client, OWN, password=PASSWORD, code=code(secret, -1))
        assert "Your recovery codes" in page.text
        await send(client, "/admin/logout")
        # From now on it is asked for.
        assert (await log_in(client)).headers["location"].endswith(CODE)


async def test_another_admin_resets_it_and_ends_the_sessions(
    client: AsyncClient, strict: State, state: State, admin_id: UUID
) -> None:
    await set_up(client)
    await add_admin(state, "other@example.com")
    async with connect(create_app(strict["settings"]), strict) as other:
        await log_in(other, "other@example.com")
        page = await other.get(SET_UP)
        uri = unescape(re.findall(r'id="uri" href="([^"]+)"', page.text)[0])
        await send(other, SET_UP, code=code(parse_qs(urlsplit(uri).query)["secret"][0]))
        assert (await act(other, "reset-second-factor", admin_id)).status_code == 303
    assert not await is_in(client)
    assert (await log_in(client)).headers["location"].endswith(SET_UP)
    assert ("other@example.com", "reset second factor") in [
        entry[:2] for entry in await entries(state)
    ]


async def test_own_second_factor_is_not_reset_without_the_password(
    client: AsyncClient, admin_id: UUID
) -> None:
    await set_up(client)
    assert (await act(client, "reset-second-factor", admin_id)).status_code == 409


async def test_lost_secret_key_leaves_the_recovery_codes(client: AsyncClient, state: State) -> None:
    secret, recovery_codes = await set_up(client)
    async with state["database"].transaction() as session:
        await session.execute(text("UPDATE second_factor SET encrypted_secret = 'unreadable'"))
    await log_in(client)
    assert (await send(client, CODE, code=code(secret))).status_code == 400
    assert (await send(client, CODE, code=recovery_codes[0])).status_code == 303


async def test_log_of_changes_tells_who_set_it_up(client: AsyncClient, state: State) -> None:
    await set_up(client)
    assert (ADMIN_EMAIL, "set up second factor") in [entry[:2] for entry in await entries(state)]


@pytest.mark.parametrize(
    ("environment", "chosen", "required"),
    [
        ("production", None, True),
        ("development", None, False),
        ("production", False, False),
        ("test", True, True),
    ],
)
def test_it_is_required_in_production_unless_the_setting_says_otherwise(
    settings: Settings, environment: str, chosen: bool | None, required: bool
) -> None:
    update = {"environment": environment, "admin_totp_required": chosen}
    assert settings.model_copy(update=update).totp_is_required is required
