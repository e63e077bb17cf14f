"""The samples of the recipes do what their pages say; that of the WebSocket has a test file."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
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
from tests.mailbox import Mailbox, smtp_settings
from tests.recipes import run_recipe


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


async def test_job_of_the_recipe_runs_in_its_own_test(
    own_app: FastAPI, state: State, user: SignedInUser, mailbox: Mailbox
) -> None:
    recipe = run_recipe("job")
    own_app.include_router(cast("APIRouter", recipe["router"]))
    with_mail = State(**{**state, "settings": smtp_settings(state["settings"], mailbox)})
    test = cast("Callable[..., Awaitable[None]]", recipe["test_report_is_mailed"])
    async with connect(own_app, with_mail) as client:
        await test(client, with_mail, user, mailbox)


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
