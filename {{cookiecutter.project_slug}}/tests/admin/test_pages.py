"""What a person meets on the pages: titles, messages, errors, help, deletions, histories, files."""

import csv
import hashlib
import re
from importlib.resources import files
from uuid import UUID

import pytest
from httpx2 import AsyncClient

from app.admin.formatters import label_of, write_csv
from app.lifespan import State
from app.settings import Settings
from tests.admins import ADMIN_EMAIL, OWN_ORIGIN, act, entries, log_in
from tests.conftest import SignedInUser

# What ours stand in for: when one of sqladmin's changes, compare it with ours and note its digest.
REPLACED = {
    "base": "160cbde24a2111f8",
    "layout": "bffc98569593a147",
    "login": "e9f47d4e78778ce8",
    "error": "81bfb5ef648cb902",
    "index": "be1fc88616261cf3",
    "list": "173d8332d56c3623",
    "details": "be8a642848e62144",
    "create": "530935731c2db15a",
    "edit": "ab92794731459e9d",
    "flash": "fb223ad041f0bd44",
    "_macros": "31efad250ae651e1",
    "filters/lookup_filter": "e3a07e18acd1d1d4",
    "filters/operation_filter": "231a1267a8eb7dac",
}


@pytest.mark.parametrize("name", REPLACED)
def test_template_of_sqladmin_is_the_one_that_ours_replaces(name: str) -> None:
    original = files("sqladmin") / "templates" / "sqladmin" / f"{name}.html"
    assert hashlib.sha256(original.read_bytes()).hexdigest()[:16] == REPLACED[name]


async def title_of(admin: AsyncClient, page: str) -> str:
    found = re.search("<title>(.*)</title>", (await admin.get(f"/admin/{page}")).text)
    return found[1] if found else ""


async def test_titles_tell_pages_apart(
    admin: AsyncClient, user: SignedInUser, settings: Settings
) -> None:
    service = settings.service_title
    assert await title_of(admin, "user/list") == f"Users · {service}"
    assert await title_of(admin, f"user/details/{user.id}") == f"{user.email} · Users · {service}"
    assert await title_of(admin, "user/create") == f"New user · Users · {service}"
    assert await title_of(admin, "nothing") == f"There is no such page. · {service}"


async def test_email_stays_in_the_form_when_the_password_is_wrong(client: AsyncClient) -> None:
    page = (await log_in(client, "ada@example.com", "wrong")).text
    assert 'value="ada@example.com"' in page
    assert 'value="wrong"' not in page


@pytest.mark.parametrize("path", ["nothing", "nothing/list", "user/details/garbage"])
async def test_error_keeps_the_menu_when_logged_in(admin: AsyncClient, path: str) -> None:
    page = await admin.get(f"/admin/{path}")
    assert page.status_code == 404
    assert "Audit log" in page.text


async def test_error_has_no_menu_when_not_logged_in(client: AsyncClient) -> None:
    page = await client.get("/admin/nothing")
    assert (page.status_code, "Audit log" in page.text) == (404, False)


async def test_empty_list_says_so_in_a_sentence(admin: AsyncClient) -> None:
    page = await admin.get("/admin/user/list?search=nobody@nowhere")
    assert "Nothing in users matches." in page.text


async def test_blank_value_is_a_dash(admin: AsyncClient, user: SignedInUser) -> None:
    page = (await admin.get(f"/admin/user/details/{user.id}")).text
    assert re.search(r"Disabled</th>\s*<td><span[^>]*>—<", page)


async def test_form_shows_help_and_errors_beside_the_field(
    admin: AsyncClient, user: SignedInUser
) -> None:
    form = {"email": "no address", "save": "Save"}
    page = await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    assert 'aria-describedby="error-email help-email"' in page.text
    assert 'id="help-email"' in page.text


async def test_message_tells_what_was_done(admin: AsyncClient, user: SignedInUser) -> None:
    answer = await act(admin, "disable", user.id)
    assert "1 user disabled." in (await admin.get(answer.headers["location"])).text
    assert "1 user disabled." not in (await admin.get(answer.headers["location"])).text


async def test_deletion_names_the_rows_and_counts_what_goes_with_them(
    admin: AsyncClient, user: SignedInUser
) -> None:
    page = (await admin.get(f"/admin/user/action/delete?pks={user.id}")).text
    assert "Delete 1 user?" in page
    counted = set(re.findall("<li>([^<]*)</li>", page))
    assert counted == {"1 session", "1 refresh token"}


async def test_deleted_user_is_gone_with_all_that_belongs_to_the_user(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    await act(admin, "delete", user.id)
    assert (await admin.get("/api/v1/users/me", headers=user.headers)).status_code == 401
    _, action, before, _ = (await entries(state))[-1]
    assert before
    assert (action, before["email"]) == ("delete", user.email)
    assert before["deleted_with_it"] == {"session": 1, "refresh_token": 1}


async def test_action_changes_all_selected_rows(
    admin: AsyncClient, state: State, user: SignedInUser, stranger: SignedInUser
) -> None:
    form = {"pks": [str(user.id), str(stranger.id)]}
    answer = await admin.post("/admin/user/action/disable", data=form, headers=OWN_ORIGIN)
    assert answer.headers["location"].endswith("/admin/user/list")
    assert [entry[1] for entry in await entries(state)][1:] == ["disable", "disable"]


async def test_nothing_is_deleted_when_one_of_the_rows_is_oneself(
    admin: AsyncClient, admin_id: UUID, user: SignedInUser
) -> None:
    form = {"pks": [str(user.id), str(admin_id)]}
    answer = await admin.post("/admin/user/action/delete", data=form, headers=OWN_ORIGIN)
    assert answer.status_code == 409
    assert (await admin.get(f"/admin/user/details/{user.id}")).status_code == 200


async def test_history_tells_fields_before_and_after(
    admin: AsyncClient, user: SignedInUser
) -> None:
    form = {"email": user.email, "full_name": "Grace Hopper", "save": "Save"}
    await admin.post(f"/admin/user/edit/{user.id}", data=form, headers=OWN_ORIGIN)
    page = (await admin.get(f"/admin/user/history/{user.id}")).text
    assert re.search(r"Full name</th>\s*<td.*—.*</td>\s*<td.*Grace Hopper", page)
    assert ADMIN_EMAIL in page


async def test_history_stays_when_the_row_is_deleted(
    admin: AsyncClient, user: SignedInUser
) -> None:
    await act(admin, "delete", user.id)
    page = (await admin.get(f"/admin/user/history/{user.id}")).text
    assert "(deleted)" in page
    assert user.email in page


async def test_history_is_not_found_when_there_never_was_such_a_row(admin: AsyncClient) -> None:
    assert (await admin.get(f"/admin/user/history/{UUID(int=7)}")).status_code == 404


async def test_export_has_the_rows_of_the_list_and_is_written_down(
    admin: AsyncClient, state: State, user: SignedInUser
) -> None:
    await admin.patch("/api/v1/users/me", json={"full_name": "=1+1"}, headers=user.headers)
    response = await admin.get(f"/admin/user/export/csv?search={user.email}")
    (row,) = csv.DictReader(response.text.splitlines())
    assert (row["full_name"], row["email"]) == ("'=1+1", user.email)
    after = {"rows": 1, "query": f"search={user.email}"}
    assert (await entries(state))[-1][1:] == ("export", None, after)


async def test_export_of_users_has_no_secret(admin: AsyncClient) -> None:
    response = await admin.get("/admin/user/export/csv")
    assert "attachment" in response.headers["content-disposition"]
    assert "argon2" not in response.text


async def test_export_ends_at_its_limit(
    admin: AsyncClient, user: SignedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.admin.app.EXPORT_ROWS_MAX", 1)
    assert (await admin.get("/admin/user/export/csv")).text.count("\n") == 2


@pytest.mark.parametrize("value", ["=1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_text_is_no_formula_in_a_spreadsheet(value: str) -> None:
    assert next(csv.reader(write_csv([], [[value]]).splitlines()[1:]), [""])[0].startswith("'")


def test_number_stays_a_number_in_a_spreadsheet() -> None:
    assert write_csv(["a"], [[-1]]).splitlines() == ["a", "-1"]


@pytest.mark.parametrize(
    ("column", "label"),
    [("created_at", "Created"), ("owner_id", "Owner"), ("full_name", "Full name"), ("id", "Id")],
)
def test_label_is_made_of_the_name(column: str, label: str) -> None:
    assert label_of(column) == label
