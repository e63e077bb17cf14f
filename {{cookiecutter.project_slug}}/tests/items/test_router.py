"""Items, through HTTP."""

import asyncio
import re

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import Settings
from tests.conftest import SignedInUser

ITEMS = "/api/v1/items"
# Statistics are what the plan depends on, and the owner of the table alone may make them.
MANY_ITEMS = (
    "WITH owner AS (INSERT INTO app_user (id, email, password_hash)"
    " VALUES (gen_random_uuid(), 'eve@example.com', '') RETURNING id)"
    " INSERT INTO item (id, owner_id, title)"
    " SELECT gen_random_uuid(), id, 'Buy milk' FROM owner, generate_series(1, 2000)",
    "ANALYZE item",
    "SET LOCAL plan_cache_mode = force_generic_plan",
)


async def create(
    client: AsyncClient, user: SignedInUser, title: str = "Buy milk", **fields: object
) -> Response:
    return await client.post(ITEMS, json={"title": title} | fields, headers=user.headers)


async def list_titles(client: AsyncClient, user: SignedInUser, query: str) -> list[str]:
    page = await client.get(f"{ITEMS}?{query}", headers=user.headers)
    return [item["title"] for item in page.json()["items"]]


async def test_create_returns_the_item_and_where_it_is(
    client: AsyncClient, user: SignedInUser
) -> None:
    response = await create(client, user)
    assert response.status_code == 201
    assert response.headers["location"] == f"{ITEMS}/{response.json()['id']}"
    found = await client.get(response.headers["location"], headers=user.headers)
    assert found.json() == response.json()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"title": ""},
        {"title": "  "},
        {"title": "x" * 201},
        {"title": "a", "owner_id": "b"},
        {"title": "\x00"},
        {"title": None},
        {"title": "a", "status": "lost"},
        {"title": "a", "price": "0.001"},
        {"title": "a", "price": "NaN"},
        {"title": "a", "due_on": "2026-02-30"},
        {"title": "a", "due_on": 0},
        {"title": "a", "tags": [""]},
        [],
    ],
)
async def test_create_is_refused_when_the_body_is_wrong(
    client: AsyncClient, user: SignedInUser, body: object
) -> None:
    assert (await client.post(ITEMS, json=body, headers=user.headers)).status_code == 422


async def test_list_pages_newest_first_without_gaps(
    client: AsyncClient, user: SignedInUser
) -> None:
    for number in range(5):
        await create(client, user, f"item {number}")
    titles, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(ITEMS, params=query, headers=user.headers)).json()
        titles += [item["title"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert titles == ["item 4", "item 3", "item 2", "item 1", "item 0"]
    assert cursor is None


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("status=open", ["Buy milk 100%", "Sell MILK"]),
        ("status=done", ["Buy bread"]),
        ("search=milk", ["Buy milk 100%", "Sell MILK"]),
        ("search=100%25", ["Buy milk 100%"]),
        ("search=buy&status=done", ["Buy bread"]),
        ("search=' OR 1=1 --", []),
    ],
)
async def test_list_holds_only_what_the_filters_let_through(
    client: AsyncClient, user: SignedInUser, query: str, titles: list[str]
) -> None:
    await create(client, user, "Sell MILK")
    await create(client, user, "Buy bread", status="done")
    await create(client, user, "Buy milk 100%")
    assert await list_titles(client, user, query) == titles


async def test_list_takes_two_statements_however_many_items_have_tags(
    client: AsyncClient, user: SignedInUser, statements: list[str]
) -> None:
    for title in ("one", "two", "three"):
        await create(client, user, title, tags=["b", "a"])
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    statements.clear()
    await client.get(ITEMS, headers=user.headers)
    await asyncio.sleep(0)
    assert len(statements) == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=abc",
        "cursor=é",
        "cursor=%00",
        "status=lost",
        "search=%00",
    ],
)
async def test_list_is_refused_when_the_query_is_wrong(
    client: AsyncClient, user: SignedInUser, query: str
) -> None:
    assert (await client.get(f"{ITEMS}?{query}", headers=user.headers)).status_code == 422


async def test_update_changes_only_what_is_sent(client: AsyncClient, user: SignedInUser) -> None:
    item = (await create(client, user)).json()
    url = f"{ITEMS}/{item['id']}"
    response = await client.patch(url, json={"description": "two"}, headers=user.headers)
    assert response.json()["title"] == item["title"]
    assert response.json()["description"] == "two"


@pytest.mark.parametrize("field", ["title", "status", "tags"])
async def test_update_is_refused_when_what_must_be_there_is_null(
    client: AsyncClient, user: SignedInUser, field: str
) -> None:
    url = f"{ITEMS}/{(await create(client, user)).json()['id']}"
    response = await client.patch(url, json={field: None}, headers=user.headers)
    assert response.status_code == 422


async def test_update_takes_away_what_is_sent_as_null(
    client: AsyncClient, user: SignedInUser
) -> None:
    item = (await create(client, user, price="9.90", due_on="2026-12-24")).json()
    assert (item["price"], item["due_on"]) == ("9.90", "2026-12-24")
    cleared = {"price": None, "due_on": None}
    response = await client.patch(f"{ITEMS}/{item['id']}", json=cleared, headers=user.headers)
    assert response.json() | {"updated_at": item["updated_at"]} == item | cleared


async def test_update_replaces_the_tags(client: AsyncClient, user: SignedInUser) -> None:
    url = f"{ITEMS}/{(await create(client, user, tags=['b', 'B', 'b'])).json()['id']}"
    assert (await client.get(url, headers=user.headers)).json()["tags"] == ["B", "b"]
    response = await client.patch(url, json={"tags": ["c", "b", "a"]}, headers=user.headers)
    assert response.json()["tags"] == ["a", "b", "c"]
    assert (await client.get(url, headers=user.headers)).json() == response.json()


async def test_update_of_the_tags_alone_counts_as_a_change_of_the_item(
    client: AsyncClient, user: SignedInUser, statements: list[str]
) -> None:
    url = f"{ITEMS}/{(await create(client, user)).json()['id']}"
    await client.patch(url, json={"tags": ["a"]}, headers=user.headers)
    assert [sql for sql in statements if sql.startswith("UPDATE item SET updated_at=now()")]


async def test_delete_removes_the_item(client: AsyncClient, user: SignedInUser) -> None:
    url = f"{ITEMS}/{(await create(client, user)).json()['id']}"
    assert (await client.delete(url, headers=user.headers)).status_code == 204
    assert (await client.get(url, headers=user.headers)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_item_is_unknown_when_somebody_else_owns_it(
    client: AsyncClient, user: SignedInUser, stranger: SignedInUser, method: str
) -> None:
    url = f"{ITEMS}/{(await create(client, user)).json()['id']}"
    body: dict[str, str] | None = {} if method == "PATCH" else None
    response = await client.request(method, url, json=body, headers=stranger.headers)
    assert response.status_code == 404
    assert (await client.get(url, headers=user.headers)).status_code == 200


async def test_list_is_empty_when_only_others_have_items(
    client: AsyncClient, user: SignedInUser, stranger: SignedInUser
) -> None:
    await create(client, user)
    page = (await client.get(ITEMS, headers=stranger.headers)).json()
    assert page == {"items": [], "next_cursor": None}


async def test_page_is_one_walk_along_the_index(
    client: AsyncClient, user: SignedInUser, settings: Settings, statements: list[str]
) -> None:
    """Also by the plan that PostgreSQL makes once for all values, and with every filter."""
    await client.get(f"{ITEMS}?status=open&search=milk", headers=user.headers)
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    (page,) = (sql for sql in statements if "FROM item " in sql)
    engine = create_async_engine(str(settings.database_owner_url), poolclass=NullPool)
    async with engine.connect() as connection:
        for sql in (*MANY_ITEMS, f"PREPARE page AS {page}"):
            await connection.exec_driver_sql(sql)
        explain = f"EXPLAIN EXECUTE page ('{user.id}', '{user.id}', 'open', 'milk', 0, 20)"
        plan = "\n".join((await connection.exec_driver_sql(explain)).scalars())
    assert "Index Scan Backward using ix_item_owner_id_id on item" in plan
    assert re.search(r"Index Cond: \(\(owner_id = .*\) AND \(id < ", plan)
    assert "Sort" not in plan
