"""Items in the admin app."""

import csv

import pytest
from httpx2 import AsyncClient

from app.database import Database
from tests.admins import OWN_ORIGIN
from tests.conftest import SignedInUser
from tests.items.test_events import events_of

ITEMS = "/api/v1/items"


@pytest.fixture
async def item_id(admin: AsyncClient, user: SignedInUser) -> str:
    body = {"title": "Buy milk", "tags": ["home"]}
    return str((await admin.post(ITEMS, json=body, headers=user.headers)).json()["id"])


async def test_form_changes_status_price_and_due_date(
    admin: AsyncClient, user: SignedInUser, item_id: str
) -> None:
    fields = {"title": "Buy milk", "status": "done", "price": "9.90", "due_on": "2026-12-24"}
    form = fields | {"save": "Save"}
    await admin.post(f"/admin/item/edit/{item_id}", data=form, headers=OWN_ORIGIN)
    changed = (await admin.get(f"{ITEMS}/{item_id}", headers=user.headers)).json()
    assert changed | fields == changed
    assert changed["tags"] == ["home"]


@pytest.mark.parametrize("wrong", [{"status": "lost"}, {"price": "-1"}, {"due_on": "tomorrow"}])
async def test_form_is_refused_when_the_api_would_refuse_it(
    admin: AsyncClient, item_id: str, wrong: dict[str, str]
) -> None:
    form = {"title": "Buy milk", "status": "open", "save": "Save"} | wrong
    response = await admin.post(f"/admin/item/edit/{item_id}", data=form, headers=OWN_ORIGIN)
    assert response.status_code == 400


async def test_page_of_an_item_shows_its_tags(admin: AsyncClient, item_id: str) -> None:
    assert "home" in (await admin.get(f"/admin/item/details/{item_id}")).text


@pytest.mark.parametrize(("status", "rows"), [("open", 1), ("done", 0)])
async def test_list_is_filtered_by_status(
    admin: AsyncClient, item_id: str, status: str, rows: int
) -> None:
    page = (await admin.get(f"/admin/item/list?status={status}")).text
    assert page.count(f"/admin/item/details/{item_id}") == rows


async def test_export_names_the_owner(admin: AsyncClient, user: SignedInUser, item_id: str) -> None:
    (row,) = csv.DictReader((await admin.get("/admin/item/export/csv")).text.splitlines())
    assert (row["id"], row["owner_email"], row["status"]) == (item_id, user.email, "open")


async def test_deletion_of_a_user_counts_the_items(
    admin: AsyncClient, user: SignedInUser, item_id: str
) -> None:
    page = (await admin.get(f"/admin/user/action/delete?pks={user.id}")).text
    assert "<li>1 item</li>" in page
    assert "<li>1 item tag</li>" in page


async def test_empty_list_of_items_says_so(admin: AsyncClient) -> None:
    assert "There are no items yet." in (await admin.get("/admin/item/list")).text


async def test_owner_is_told_when_an_admin_changes_or_deletes(
    admin: AsyncClient, user: SignedInUser, item_id: str, database: Database
) -> None:
    form = {"title": "Buy bread", "status": "open", "save": "Save"}
    await admin.post(f"/admin/item/edit/{item_id}", data=form, headers=OWN_ORIGIN)
    await admin.post("/admin/item/action/delete", data={"pks": item_id}, headers=OWN_ORIGIN)
    kinds = [kind for _, kind, _ in await events_of(database, user.id)]
    assert kinds == ["item.created", "item.changed", "item.deleted"]
