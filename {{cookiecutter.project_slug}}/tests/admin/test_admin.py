"""The admin app: who gets in, what it never shows, what it refuses, what it writes down."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.accounts.models import Session
from app.admin import service
from app.admin.audit import Actor
from app.lifespan import State
from app.main import create_app
from app.settings import Settings
from tests.admins import ADMIN_EMAIL, OWN_ORIGIN, act, entries, log_in, session_of
from tests.conftest import PASSWORD, SignedInUser, connect

PAGES = ("", "user/list", "session/list", "audit-entry/list")


async def test_login_sets_a_strict_cookie(client: AsyncClient, admin_id: UUID) -> None:
    cookie = (await log_in(client)).headers["set-cookie"].lower()
    for attribute in ("httponly", "samesite=strict", "path=/admin", "max-age=3600"):
        assert attribute in cookie


async def test_cookie_is_secure_in_production(
    settings: Settings, state: State, admin_id: UUID
) -> None:
    app = create_app(settings.model_copy(update={"environment": "production"}))
    async with connect(app, state) as client:
        cookie = (await log_in(client)).headers["set-cookie"]
    assert "; secure" in cookie.lower()
    assert cookie.startswith("__Secure-admin_session=")


@pytest.mark.parametrize(
    ("email", "password"), [(ADMIN_EMAIL, "wrong"), ("nobody@example.com", PASSWORD)]
)
async def test_login_is_refused_when_email_or_password_is_wrong(
    client: AsyncClient, admin_id: UUID, email: str, password: str
) -> None:
    response = await log_in(client, email, password)
    assert response.status_code == 400
    assert "set-cookie" not in response.headers


async def test_login_is_refused_when_user_is_no_admin(
    client: AsyncClient, user: SignedInUser
) -> None:
    assert (await log_in(client, user.email)).status_code == 400


async def test_page_leads_to_login_when_not_logged_in(client: AsyncClient) -> None:
    for page in PAGES:
        response = await client.get(f"/admin/{page}")
        assert response.headers["location"] == "http://service/admin/login", page


async def test_page_opens_for_an_admin(admin: AsyncClient) -> None:
    for page in PAGES:
        response = await admin.get(f"/admin/{page}")
        assert (response.status_code, ADMIN_EMAIL in response.text) == (200, True), page


@pytest.mark.parametrize("change", ["disabled_at = now()", "role = 'member'"])
async def test_admin_is_out_at_once_when_rights_end(
    admin: AsyncClient, state: State, change: str
) -> None:
    async with state["database"].transaction() as session:
        await session.execute(text(f"UPDATE app_user SET {change}"))  # noqa: S608
    assert (await admin.get("/admin/user/list")).status_code == 302


async def test_stolen_cookie_is_worthless_after_logout(admin: AsyncClient) -> None:
    stolen = dict(admin.cookies)
    await admin.post("/admin/logout", headers=OWN_ORIGIN)
    admin.cookies = stolen
    assert (await admin.get("/admin/")).status_code == 302


async def test_login_renews_the_session(admin: AsyncClient) -> None:
    before = dict(admin.cookies)
    await log_in(admin)
    admin.cookies = before
    assert (await admin.get("/admin/")).status_code == 302


async def test_cookie_is_refused_when_it_was_changed(admin: AsyncClient) -> None:
    cookie = admin.cookies["admin_session"]
    admin.cookies = {"admin_session": f"x{cookie[1:]}"}
    assert (await admin.get("/admin/")).status_code == 302


async def test_cookie_works_in_another_worker(
    admin: AsyncClient, settings: Settings, state: State
) -> None:
    async with connect(create_app(settings), state) as other:
        other.cookies = dict(admin.cookies)
        assert (await other.get("/admin/")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://service"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://service"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_foreign_request_is_forbidden(admin: AsyncClient, headers: dict[str, str]) -> None:
    for path in ("login", "logout", "user/action/disable", "session/action/delete"):
        assert (await admin.post(f"/admin/{path}", headers=headers)).status_code == 403, path


async def test_link_cannot_log_out(admin: AsyncClient) -> None:
    assert (await admin.get("/admin/logout")).status_code == 405


@pytest.mark.parametrize("action", ["disable", "delete"])
async def test_link_to_an_action_only_asks(
    admin: AsyncClient, user: SignedInUser, action: str
) -> None:
    page = await admin.get(f"/admin/user/action/{action}?pks={user.id}")
    assert (page.status_code, user.email in page.text) == (200, True)
    assert (await admin.get("/api/v1/users/me", headers=user.headers)).status_code == 200


async def test_every_answer_forbids_foreign_content(admin: AsyncClient) -> None:
    for page in ("login", "user/list", "nothing/list", "statics/js/main.js"):
        headers = (await admin.get(f"/admin/{page}")).headers
        assert "script-src 'self';" in headers["content-security-policy"], page
        assert "unsafe" not in headers["content-security-policy"], page
        assert headers["x-frame-options"] == "DENY", page
        assert ("no-store" in headers["cache-control"]) is not page.startswith("statics"), page


class ScriptParser(HTMLParser):
    """Finds what the Content-Security-Policy would refuse."""

    found: list[str]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]


async def test_page_has_no_inline_script_or_style_or_hash(
    admin: AsyncClient, admin_id: UUID
) -> None:
    for page in ("", "user/list", f"user/details/{admin_id}", f"user/edit/{admin_id}"):
        response = await admin.get(f"/admin/{page}")
        parser = ScriptParser()
        parser.found = []
        parser.feed(response.text)
        assert (response.status_code, parser.found) == (200, []), page
        assert "argon2" not in response.text, page
        assert "password" not in response.text.lower(), page


async def test_password_hash_cannot_be_edited(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    form = {"email": user.email, "password_hash": "x", "full_name": "Ada", "save": "Save"}
    await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    async with state["database"].transaction() as session:
        query = text("SELECT full_name, password_hash FROM app_user WHERE email = :email")
        name, password_hash = (await session.execute(query, {"email": user.email})).one()
    assert name == "Ada"
    assert password_hash.startswith("$argon2id$")


async def test_disabled_user_is_out_at_once(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    response = await act(admin, "disable", user.id)
    assert response.headers["location"].endswith(f"/admin/user/details/{user.id}")
    assert (await admin.get("/api/v1/users/me", headers=user.headers)).status_code == 401


async def test_sessions_end_when_an_admin_ends_them(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    await act(admin, "end-sessions", user.id)
    assert (await admin.get("/api/v1/users/me", headers=user.headers)).status_code == 401


@pytest.mark.parametrize("action", ["disable", "make-member", "delete"])
async def test_admin_cannot_lock_herself_out(
    admin: AsyncClient, admin_id: UUID, action: str
) -> None:
    assert (await act(admin, action, admin_id)).status_code == 409
    assert (await admin.get("/admin/")).status_code == 200


async def test_form_is_shown_again_when_a_value_is_not_valid(
    admin: AsyncClient, user: SignedInUser
) -> None:
    form = {"email": "not an address", "save": "Save"}
    response = await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    assert response.status_code == 400
    assert "valid email address" in response.text


@pytest.mark.parametrize("row_id", ["garbage", "019a0000-0000-7000-8000-000000000000"])
async def test_page_is_not_found_when_row_is_unknown(admin: AsyncClient, row_id: str) -> None:
    for page in ("details", "edit"):
        assert (await admin.get(f"/admin/user/{page}/{row_id}")).status_code == 404, page


async def test_users_are_found_by_email(admin: AsyncClient, user: SignedInUser) -> None:
    found = (await admin.get("/admin/user/list?search=ADA@")).text
    assert user.email in found
    assert f'title="{ADMIN_EMAIL}"' in found
    assert found.count(ADMIN_EMAIL) == 2  # the name of who is logged in, and its title


async def test_users_are_filtered_when_disabled(
    admin: AsyncClient, user: SignedInUser, stranger: SignedInUser
) -> None:
    await act(admin, "disable", user.id)
    found = (await admin.get("/admin/user/list?disabled=true")).text
    assert user.email in found
    assert stranger.email not in found


async def test_change_is_written_down_with_before_and_after(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    await act(admin, "make-admin", user.id)
    assert (await entries(state))[1:] == [
        (ADMIN_EMAIL, "change role", {"role": "member"}, {"role": "admin"})
    ]


async def test_login_is_written_down(admin: AsyncClient, state: State) -> None:
    assert [entry[:2] for entry in await entries(state)] == [(ADMIN_EMAIL, "log in")]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entry SET action = ''", "DELETE FROM audit_entry", "TRUNCATE audit_entry"],
)
async def test_audit_log_only_grows(state: State, statement: str) -> None:
    with pytest.raises(DBAPIError, match=r"can only grow|permission denied"):
        async with state["database"].transaction() as session:
            await session.execute(text(statement))


async def test_admin_is_not_found_when_switched_off(settings: Settings, state: State) -> None:
    app = create_app(settings.model_copy(update={"admin_enabled": False}))
    async with connect(app, state) as client:
        for path in ("/admin", "/admin/", "/admin/login", "/admin/user/list"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("prefix", ["/shop", ""])
async def test_links_keep_scheme_and_prefix_behind_a_proxy(
    settings: Settings, state: State, admin_id: UUID, prefix: str
) -> None:
    """Whether the proxy cuts off ROOT_PATH or not."""
    app = create_app(settings.model_copy(update={"root_path": "/shop"}))
    async with connect(app, state, base_url="https://service") as client:
        form = {"username": ADMIN_EMAIL, "password": PASSWORD}
        headers = {"Origin": "https://service"}
        response = await client.post(f"{prefix}/admin/login", data=form, headers=headers)
        assert response.headers["location"] == "https://service/shop/admin/"
        cookies = {"admin_session": response.cookies["admin_session"]}
        page = await client.get(f"{prefix}/admin/user/list", headers=_cookie(cookies))
    assert page.status_code == 200
    assert "http://" not in page.text
    assert page.text.count("https://service/") == page.text.count("https://service/shop/admin/") > 5


async def test_unknown_error_is_a_page_without_details(
    admin: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr("app.admin.repository.list_rows", fail)
    response = await act(admin, "enable", UUID(int=0))
    assert response.status_code == 500
    assert "the secret" not in response.text
    assert "no-store" in response.headers["cache-control"]


async def test_two_apps_share_nothing(app: FastAPI, settings: Settings, state: State) -> None:
    create_app(settings.model_copy(update={"service_title": "another"}))
    async with connect(app, state) as client:
        assert "another" not in (await client.get("/admin/login")).text


def _cookie(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


async def test_home_shows_figures_and_newest_changes(
    admin: AsyncClient, user: SignedInUser
) -> None:
    await act(admin, "disable", user.id)
    page = (await admin.get("/admin/")).text
    for text_on_it in ("Active sessions", "Migration", "disable", ADMIN_EMAIL):
        assert text_on_it in page


async def test_list_of_owned_rows_reads_no_row_twice(
    admin: AsyncClient, state: State, user: SignedInUser, statements: list[str]
) -> None:
    for _ in range(2):
        form = {"username": user.email, "password": PASSWORD}
        await admin.post("/api/v1/auth/token", data=form)
    statements.clear()
    page = (await admin.get("/admin/session/list")).text
    assert page.count(f"{user.email}</a>") == 3
    # The user, the count, the rows, the emails of their owners.
    assert len([sql for sql in statements if sql.startswith("SELECT")]) == 4


async def test_owned_rows_are_found_by_email(
    admin: AsyncClient, user: SignedInUser, stranger: SignedInUser
) -> None:
    page = (await admin.get(f"/admin/session/list?search={user.email}")).text
    assert f"{user.email}</a>" in page
    assert stranger.email not in page


async def test_deleted_row_is_gone_and_written_down(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    session_id = await session_of(admin, user)
    await admin.post("/admin/session/action/delete", data={"pks": session_id}, headers=OWN_ORIGIN)
    assert (await admin.get(f"/admin/session/details/{session_id}")).status_code == 404
    _, action, before, after = (await entries(state))[-1]
    assert (action, before and before["user_id"], after) == ("delete", str(user.id), None)


async def test_refused_change_is_not_written_down(
    admin: AsyncClient, state: State, user: SignedInUser, stranger: SignedInUser
) -> None:
    form = {"email": stranger.email, "save": "Save"}
    response = await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    assert (response.status_code, "already" in response.text) == (400, True)
    assert len(await entries(state)) == 1


async def test_row_is_written_down_when_it_is_created(state: State, user: SignedInUser) -> None:
    actor = Actor(user.id, user.email, "127.0.0.1", "request")
    row = Session(user_id=user.id, expires_at=datetime.now(UTC))
    await service.add_row(state["database"], actor, row)
    _, action, before, after = (await entries(state))[-1]
    assert (action, before, after and after["user_id"]) == ("create", None, str(user.id))


@pytest.mark.parametrize(("term", "found"), [("{id}", 1), (ADMIN_EMAIL, 2), ("nobody", 0)])
async def test_entries_are_found_by_whom_and_by_row(
    admin: AsyncClient, user: SignedInUser, term: str, found: int
) -> None:
    await act(admin, "disable", user.id)
    page = await admin.get("/admin/audit-entry/list", params={"search": term.format(id=user.id)})
    assert page.text.count('class="first"') == found
