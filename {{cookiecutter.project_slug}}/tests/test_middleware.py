"""Request ids, the last resort for errors, and the body limit."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from httpx2 import AsyncClient
from structlog.testing import capture_logs

from app.lifespan import State
from server import metrics
from tests.conftest import SignedInUser, connect
from tests.failing_app import SECRET


@pytest.fixture
async def failing_client(own_app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    @own_app.get("/fail")
    async def fail() -> None:
        raise RuntimeError("the secret is 42")

    async with connect(own_app, state) as client:
        yield client


async def test_request_id_is_kept_when_it_is_well_formed(client: AsyncClient) -> None:
    response = await client.get("/livez", headers={"X-Request-ID": "a" * 32})
    assert response.headers.get_list("x-request-id") == ["a" * 32]


@pytest.mark.parametrize("forged", ["short", "a" * 65, 'x"} {"level": "error"', "é" * 20])
async def test_request_id_is_replaced_when_it_is_malformed(
    client: AsyncClient, forged: str
) -> None:
    response = await client.get("/livez", headers={b"X-Request-ID": forged.encode()})
    assert response.headers["x-request-id"] != forged
    assert len(response.headers["x-request-id"]) == 32


async def test_unknown_error_is_a_problem_without_details(
    failing_client: AsyncClient,
) -> None:
    response = await failing_client.get("/fail")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "request_id": response.headers["x-request-id"],
    }


async def test_body_is_refused_when_its_length_is_over_the_limit(client: AsyncClient) -> None:
    response = await client.post("/api/v1/users", content=b"x" * 1_048_577)
    assert (response.status_code, response.json()["status"]) == (413, 413)


@pytest.mark.parametrize("path", ["/livez%0a", "/metrics%0a", "/api/v1/users/me%0d", "/%7fadmin"])
async def test_path_is_refused_when_it_has_a_control_character(
    client: AsyncClient, path: str
) -> None:
    response = await client.get(path)
    assert (response.status_code, response.json()["status"]) == (400, 400)


async def test_chunked_body_is_refused_when_it_grows_over_the_limit(client: AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    response = await client.post("/api/v1/users", content=chunks(), headers=headers)
    assert (response.status_code, response.json()["status"]) == (413, 413)


@pytest.mark.parametrize("path", ["/livez", "/version", "/api/v1/users/me", "/openapi.json"])
async def test_head_is_answered_like_get(client: AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert head.status_code == get.status_code
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_no_answer_is_kept_by_a_cache_unless_its_route_says_so(
    client: AsyncClient, user: SignedInUser
) -> None:
    for path in ("/api/v1/users/me", "/api/v1/auth/sessions", "/nowhere"):
        response = await client.get(path, headers=user.headers)
        assert response.headers["cache-control"] == "no-store"
    keys = await client.get("/.well-known/jwks.json")
    assert keys.headers["cache-control"] == "public, max-age=300"


async def test_access_line_has_what_the_request_cost_and_whose_it_was(
    client: AsyncClient, user: SignedInUser
) -> None:
    with capture_logs() as logs:
        await client.get("/api/v1/users/me", headers=user.headers)
    [line] = [line for line in logs if line["event"] == "request"]
    assert line["route"] == "/api/v1/users/me"
    assert line["sql_count"] == 1
    assert line["sql_ms"] > 0
    assert line["user_id"] == str(user.id)
    assert line["session_id"]


async def test_no_secret_reaches_the_log_wherever_it_is_sent(
    client: AsyncClient, user: SignedInUser, caplog: pytest.LogCaptureFixture
) -> None:
    bearer = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
    form = {"username": user.email, "password": SECRET}
    caplog.set_level("DEBUG")
    with capture_logs() as logs:
        await client.get("/api/v1/users/me", params={"token": SECRET}, headers=bearer)
        await client.post("/api/v1/auth/token", data=form, headers=bearer)
        await client.post("/api/v1/auth/token", data={"username": SECRET, "password": SECRET})
        await client.post("/api/v1/auth/refresh", json={"refresh_token": SECRET})
        await client.post("/api/v1/users", json={"email": "not an email", "password": SECRET})
        await client.post("/api/v1/users", content='{"password": "' + SECRET)
        await client.post("/admin/login", data=form)
        await client.get("/livez", headers={"X-Request-ID": f"{SECRET} and a line"})
    assert len(logs) >= 7
    assert SECRET not in repr(logs)
    # The client of the tests tells where it went.
    ours = [record.getMessage() for record in caplog.records if record.name != "httpx2"]
    assert SECRET not in repr(ours)


async def test_stream_counts_with_the_time_until_it_began(own_app: FastAPI, state: State) -> None:
    async def half_a_second() -> AsyncIterator[str]:
        yield "data: begun"
        await asyncio.sleep(0.5)

    @own_app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(half_a_second(), media_type="text/event-stream")

    with capture_logs() as logs:
        async with connect(own_app, state) as client:
            await client.get("/stream")
    [line] = [line for line in logs if line["event"] == "request"]
    assert line["stream"]
    assert line["duration_ms"] >= 500
    assert metrics._REQUESTS._child(("GET", "/stream", "200"))._sum.get() < 0.4


async def test_websocket_is_one_request_that_counts_when_it_is_accepted(
    own_app: FastAPI, state: State
) -> None:
    @own_app.websocket("/talk/{topic}")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await asyncio.sleep(0.5)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    sent = []

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/talk/1", "headers": [], "state": {**state}}
    with capture_logs() as logs:
        await own_app({**scope, "query_string": b"", "subprotocols": []}, receive, send)
    [line] = [line for line in logs if line["event"] == "request"]
    assert sent[0] == "websocket.accept"
    assert (line["route"], line["status"], line["stream"]) == ("/talk/{topic}", 101, True)
    assert metrics._REQUESTS._child(("GET", "/talk/{topic}", "101"))._sum.get() < 0.4
