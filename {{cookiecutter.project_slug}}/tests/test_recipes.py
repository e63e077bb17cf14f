"""The samples of the recipes do what their pages say; that of the WebSocket has a test file."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI
from httpx2 import AsyncClient
from pydantic import Field

from app.errors import UnavailableError
from app.lifespan import State
from tests.conftest import SignedInUser, connect
from tests.edge import running_application
from tests.recipes import run_recipe


@pytest.fixture
async def own_client(own_app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    async with connect(own_app, state) as client:
        yield client


async def test_http_client_hands_the_request_id_on_and_is_closed() -> None:
    recipe = run_recipe("http-client")  # app/http_client.py
    assert recipe["HttpClientDep"]
    opened = cast(
        "Callable[[], AbstractAsyncContextManager[AsyncClient]]", recipe["open_http_client"]
    )
    with (
        running_application() as port,
        structlog.contextvars.bound_contextvars(request_id="a" * 32),
    ):
        async with opened() as http_client:
            response = await http_client.get(f"http://127.0.0.1:{port}/")
    assert response.json()["headers"]["x-request-id"] == "a" * 32
    assert http_client.is_closed


async def test_task_runs_when_the_answer_is_out(
    own_app: FastAPI, own_client: AsyncClient, user: SignedInUser
) -> None:
    recipe = run_recipe("after-the-answer")
    written: list[str] = []

    async def write_report(email: str) -> None:
        written.append(email)

    recipe["write_report"] = write_report
    own_app.include_router(cast("APIRouter", recipe["router"]))
    assert (await own_client.post("/reports", headers=user.headers)).status_code == 202
    assert written == [user.email]


async def test_dependency_of_the_recipe_decides_by_a_setting(
    own_app: FastAPI, state: State, user: SignedInUser
) -> None:
    recipe = run_recipe("setting", Field=Field)  # ITEMS_PER_USER_MAX
    refuse = cast("Callable[[], object]", recipe["refuse_strangers"])
    own_app.add_api_route("/members", lambda: None, dependencies=[Depends(refuse)])
    outside = state["settings"].model_copy(update={"environment": "production"})
    async with connect(own_app, State(**{**state, "settings": outside})) as client:
        assert (await client.get("/members", headers=user.headers)).status_code == 200
        assert (await client.get("/members")).status_code == 401


async def test_readiness_check_is_503_when_nobody_listens() -> None:
    check = cast("Callable[[str, int], object]", run_recipe("readiness")["check_search"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await cast("asyncio.Future[None]", check("127.0.0.1", port))
    with pytest.raises(UnavailableError):
        await cast("asyncio.Future[None]", check("127.0.0.1", port))
