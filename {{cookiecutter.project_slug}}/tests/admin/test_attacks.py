"""What is sent to the admin app by hand: nothing ends in a 5xx, nothing is shown or set by it."""

from uuid import UUID

import pytest
from httpx2 import AsyncClient

from app.lifespan import State, build_state
from app.main import create_app
from app.settings import Settings
from tests.admins import ADMIN_EMAIL, OWN_ORIGIN, add_admin, log_in
from tests.conftest import SignedInUser, connect

SQL = "'; DROP TABLE app_user; --"
FORM = OWN_ORIGIN | {"Content-Type": "application/x-www-form-urlencoded"}
BAD = ["%00", "%ff", "%ed%a0%80", "%0d%0a", "%25", "-1", "9" * 5000, SQL, "a,b", "../../etc/passwd"]
TABLES = ["user", "session", "audit-entry", "nothing"]
PARAMETERS = ["search", "page", "pageSize", "sortBy", "sort", "role", "disabled", "error"]


@pytest.mark.system  # starts nothing, but sends 800 requests
@pytest.mark.parametrize("bad", BAD)
async def test_nothing_fails_when_an_address_holds_what_is_no_value(
    admin: AsyncClient, bad: str
) -> None:
    addresses = [f"{table}/list?{name}={bad}" for table in TABLES for name in PARAMETERS]
    pages = ("details", "edit", "history", "export", "action")
    addresses += [f"{table}/{page}/{bad}" for table in TABLES for page in pages]
    addresses += [f"{table}/action/delete?pks={bad}" for table in TABLES]
    addresses += [f"user/export/csv?{name}={bad}" for name in PARAMETERS]
    for address in addresses:
        response = await admin.get(f"/admin/{address}")
        assert response.status_code < 500, address
        assert "argon2" not in response.text


@pytest.mark.system  # starts nothing, but sends 800 requests
@pytest.mark.parametrize("bad", BAD)
async def test_nothing_fails_when_a_change_holds_what_is_no_value(
    admin: AsyncClient, user: SignedInUser, bad: str
) -> None:
    actions = ("delete", "disable", bad)
    changes = [(f"{table}/action/{name}", f"pks={bad}") for table in TABLES for name in actions]
    changes += [(f"user/edit/{user.id}", f"save=Save&email={user.email}&full_name={bad}")]
    changes += [(f"user/edit/{user.id}", f"save=Save&email={bad}")]
    changes += [("login", f"username={bad}&password={bad}")]
    for address, form in changes:
        response = await admin.post(f"/admin/{address}", content=form, headers=FORM)
        assert response.status_code < 500, address


@pytest.mark.parametrize(
    ("form", "status"),
    [({}, 422), ({"pks": str(UUID(int=7))}, 404), ({"pks": [str(UUID(int=7))] * 101}, 422)],
    ids=["none", "unknown", "too many"],
)
async def test_deletion_is_refused_when_it_names_no_row_or_too_many(
    admin: AsyncClient, form: dict[str, str], status: int
) -> None:
    response = await admin.post("/admin/session/action/delete", data=form, headers=OWN_ORIGIN)
    assert response.status_code == status


async def test_form_is_refused_when_its_charset_yields_what_is_no_text(
    admin: AsyncClient, user: SignedInUser
) -> None:
    body = b'--X\r\nContent-Disposition: form-data; name="email"\r\n\r\n\\ud800\r\n--X--\r\n'
    kind = "multipart/form-data; boundary=X; charset=raw_unicode_escape"
    headers = OWN_ORIGIN | {"Content-Type": kind}
    response = await admin.post(f"/admin/user/edit/{user.id}", content=body, headers=headers)
    assert response.status_code == 400


async def test_text_of_a_user_is_no_markup(admin: AsyncClient, user: SignedInUser) -> None:
    script = "<script>alert(1)</script>"
    await admin.patch("/api/v1/users/me", json={"full_name": script}, headers=user.headers)
    for page in ("user/list", f"user/details/{user.id}", f"user/edit/{user.id}"):
        text = (await admin.get(f"/admin/{page}")).text
        assert script not in text
        assert "&lt;script&gt;alert(1)" in text


async def test_columns_outside_the_form_are_not_set(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    form = {"email": user.email, "id": "0", "disabled_at": "2020-01-01", "password_hash": "x"}
    await admin.post(f"/admin/user/edit/{user.id}", data=form | {"save": "Save"}, headers=FORM)
    response = await admin.get("/api/v1/users/me", headers=user.headers)
    assert (response.status_code, response.json()["id"]) == (200, str(user.id))


async def test_login_is_slowed_down_apart_from_that_of_the_api(
    settings: Settings, state: State
) -> None:
    tight = settings.model_copy(update={"login_attempts_per_account": 3})
    throttled = build_state(tight, state["database"])
    await add_admin(throttled)
    async with connect(create_app(tight), throttled) as client:
        answers = [await log_in(client, password="wrong") for _ in range(3)]
        # Whoever guesses at the public API must not keep the admins out.
        form = {"username": ADMIN_EMAIL, "password": "wrong"}
        from_api = await client.post("/api/v1/auth/token", data=form)
        last = await log_in(client)
    assert [answer.status_code for answer in (*answers, from_api)] == [400, 400, 400, 401]
    assert (last.status_code, last.headers["retry-after"]) == (429, "1")
    assert "Try again in 1 s." in last.text
    assert "Log in</button>" in last.text
