"""The {things}, through HTTP."""

import pytest
from httpx2 import AsyncClient, Response

from tests.conftest import SignedInUser

THINGS = "/api/v1/things"


async def create(client: AsyncClient, user: SignedInUser, name: str = "one") -> Response:
    return await client.post(THINGS, json={"name": name}, headers=user.headers)


async def test_create_returns_what_is_found_at_its_location(
    client: AsyncClient, user: SignedInUser
) -> None:
    created = await create(client, user)
    found = await client.get(created.headers["location"], headers=user.headers)
    assert (created.status_code, found.json()) == (201, created.json())


async def test_create_is_refused_when_a_field_is_unknown(
    client: AsyncClient, user: SignedInUser
) -> None:
    body = {"name": "one", "owner_id": str(user.id)}
    assert (await client.post(THINGS, json=body, headers=user.headers)).status_code == 422


async def test_list_pages_newest_first(client: AsyncClient, user: SignedInUser) -> None:
    for name in ("one", "two", "three"):
        await create(client, user, name)
    first = (await client.get(f"{THINGS}?limit=2", headers=user.headers)).json()
    query = f"?cursor={first['next_cursor']}"
    second = (await client.get(f"{THINGS}{query}", headers=user.headers)).json()
    assert [row["name"] for row in first["items"] + second["items"]] == ["three", "two", "one"]


async def test_update_and_delete_change_the_row(client: AsyncClient, user: SignedInUser) -> None:
    url = (await create(client, user)).headers["location"]
    changed = await client.patch(url, json={"name": "two"}, headers=user.headers)
    assert changed.json()["name"] == "two"
    assert (await client.delete(url, headers=user.headers)).status_code == 204
    assert (await client.get(url, headers=user.headers)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_row_is_unknown_when_somebody_else_owns_it(
    client: AsyncClient, user: SignedInUser, stranger: SignedInUser, method: str
) -> None:
    url = (await create(client, user)).headers["location"]
    body: dict[str, str] | None = {} if method == "PATCH" else None
    response = await client.request(method, url, json=body, headers=stranger.headers)
    assert response.status_code == 404
