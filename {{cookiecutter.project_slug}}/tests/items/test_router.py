"""Items, through HTTP."""

import asyncio

import pytest
from httpx2 import AsyncClient, Response

from tests.conftest import SignedInUser

ITEMS = "/api/v1/items"


async def create(client: AsyncClient, user: SignedInUser, title: str = "Buy milk") -> Response:
    return await client.post(ITEMS, json={"title": title}, headers=user.headers)


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


async def test_list_takes_two_statements(
    client: AsyncClient, user: SignedInUser, statements: list[str]
) -> None:
    await create(client, user)
    statements.clear()
    await client.get(ITEMS, headers=user.headers)
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    assert len(statements) == 2


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=abc", "cursor=é"])
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


async def test_update_is_refused_when_the_title_is_null(
    client: AsyncClient, user: SignedInUser
) -> None:
    url = f"{ITEMS}/{(await create(client, user)).json()['id']}"
    response = await client.patch(url, json={"title": None}, headers=user.headers)
    assert response.status_code == 422


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
