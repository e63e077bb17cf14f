"""Every error is a problem document (RFC 9457)."""

from fastapi import FastAPI
from httpx2 import AsyncClient

from app.database import Database
from app.lifespan import build_state
from app.settings import Settings
from tests.conftest import connect


async def test_unknown_path_is_a_problem(client: AsyncClient) -> None:
    response = await client.get("/nothing/here")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


async def test_slash_too_many_is_a_404_and_no_redirect_to_an_address_without_root_path(
    client: AsyncClient,
) -> None:
    assert (await client.post("/api/v1/auth/token/", data={})).status_code == 404


async def test_wrong_method_is_a_problem_that_names_the_right_one(client: AsyncClient) -> None:
    response = await client.delete("/livez")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    assert response.headers["content-type"] == "application/problem+json"


async def test_all_methods_are_named_when_a_path_has_several(client: AsyncClient) -> None:
    response = await client.put("/api/v1/users/me")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, PATCH")


async def test_invalid_body_names_the_field_and_hides_the_value(client: AsyncClient) -> None:
    body = {"email": "no address", "password": "hunter2"}
    response = await client.post("/api/v1/users", json=body)
    locations = [error["location"] for error in response.json()["errors"]]
    assert locations == [["body", "email"], ["body", "password"]]
    assert "hunter2" not in response.text


async def test_malformed_json_is_a_problem(client: AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    response = await client.post("/api/v1/users", content=b"{", headers=headers)
    assert (response.status_code, response.json()["status"]) == (422, 422)


async def test_nul_character_is_refused(
    app: FastAPI, settings: Settings, committing_database: Database
) -> None:
    form = {"username": "ada\x00@example.com", "password": "x"}
    async with connect(app, build_state(settings, committing_database)) as client:
        response = await client.post("/api/v1/auth/token", data=form)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


async def test_documented_errors_have_the_problem_schema(client: AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    conflict = document["paths"]["/api/v1/users"]["post"]["responses"]["409"]
    assert list(conflict["content"]) == ["application/problem+json"]
    assert "Problem" in document["components"]["schemas"]
