"""A WebSocket that knows its user: the route of the recipe, and the codes it is closed with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

import pytest
from fastapi import APIRouter, FastAPI, Security, WebSocket
from starlette.types import Message

from app.accounts import roles
from app.accounts.dependencies import get_current_user
from app.accounts.repository import AuthenticatedUser
from app.database import DatabaseDep, SessionDep
from app.errors import ConflictError
from app.lifespan import State
from app.settings import SettingsDep
from tests.conftest import SignedInUser
from tests.recipes import run_recipe

URL = "/api/v1/echo/ws"


class Peer:
    """The client's end of a WebSocket that no network is between."""

    def __init__(self) -> None:
        self.sent = asyncio.Queue[Message]()
        self.received = asyncio.Queue[Message]()

    async def say(self, text: str) -> Message:
        await self.sent.put({"type": "websocket.receive", "text": text})
        return await self.hear()

    async def hear(self) -> Message:
        return await asyncio.wait_for(self.received.get(), timeout=5)


@pytest.fixture
def echo_app(own_app: FastAPI) -> FastAPI:

    router = cast("APIRouter", run_recipe("websocket")["router"])
    own_app.include_router(router, prefix="/api/v1")

    @own_app.websocket("/admin-only")
    async def admin_only(
        current_user: Annotated[
            AuthenticatedUser, Security(get_current_user, scopes=[roles.ADMIN])
        ],
    ) -> None:
        raise AssertionError

    @own_app.websocket("/busy")
    async def busy(
        websocket: WebSocket, _database: DatabaseDep, _settings: SettingsDep, _session: SessionDep
    ) -> None:
        await websocket.accept()
        raise ConflictError("é" * 100)

    return own_app


@asynccontextmanager
async def dial(
    app: FastAPI, state: State, path: str, *offered: str, **headers: str
) -> AsyncIterator[Peer]:
    peer = Peer()
    scope = {
        "type": "websocket",
        "path": path,
        "scheme": "ws",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": list(offered),
        "state": {**state},
    }
    await peer.sent.put({"type": "websocket.connect"})
    task = asyncio.create_task(app(scope, peer.sent.get, peer.received.put))
    yield peer
    await peer.sent.put({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(task, timeout=5)


def token_of(user: SignedInUser) -> str:
    return user.headers["Authorization"].removeprefix("Bearer ")


async def test_echo_answers_when_the_token_is_a_subprotocol(
    echo_app: FastAPI, state: State, user: SignedInUser
) -> None:
    async with dial(echo_app, state, URL, "v1", f"bearer.{token_of(user)}") as peer:
        assert (await peer.hear())["subprotocol"] == "v1"
        assert (await peer.say("hello"))["text"] == f"{user.email}: hello"


async def test_echo_answers_when_the_token_is_a_header(
    echo_app: FastAPI, state: State, user: SignedInUser
) -> None:
    sent = {"authorization": user.headers["Authorization"]}
    async with dial(echo_app, state, URL, **sent) as peer:
        assert (await peer.hear())["type"] == "websocket.accept"
        assert (await peer.say("hello"))["text"] == f"{user.email}: hello"


async def test_socket_is_refused_when_its_path_has_a_control_character(
    echo_app: FastAPI, state: State, user: SignedInUser
) -> None:
    async with dial(echo_app, state, f"{URL}\n", "v1", f"bearer.{token_of(user)}") as peer:
        assert (await peer.hear())["status"] == 400


@pytest.mark.parametrize("offered", [(), ("v1",), ("v1", "bearer."), ("v1", "bearer.a.b.c")])
async def test_socket_is_closed_with_4401_when_the_token_is_not_good(
    echo_app: FastAPI, state: State, offered: tuple[str, ...]
) -> None:
    async with dial(echo_app, state, URL, *offered) as peer:
        accepted, closed = await peer.hear(), await peer.hear()
    assert accepted["subprotocol"] == (offered[0] if offered else None)
    assert (closed["type"], closed["code"]) == ("websocket.close", 4401)


async def test_socket_is_closed_with_4403_when_a_scope_is_missing(
    echo_app: FastAPI, state: State, user: SignedInUser
) -> None:
    sent = {"authorization": user.headers["Authorization"]}
    async with dial(echo_app, state, "/admin-only", **sent) as peer:
        closed = [await peer.hear(), await peer.hear()][1]
    assert (closed["code"], closed["reason"]) == (4403, "The access token lacks the scope admin.")


@pytest.mark.parametrize(
    ("origin", "code"),
    [("http://service", None), ("https://shop.example", None), ("https://evil.example", 4403)],
)
async def test_origin_decides_when_a_browser_connects(
    echo_app: FastAPI, state: State, user: SignedInUser, origin: str, code: int | None
) -> None:
    named = state["settings"].model_copy(update={"cors_origins": ("https://shop.example",)})
    headers = {"host": "service", "origin": origin}
    offered = ("v1", f"bearer.{token_of(user)}")
    async with dial(
        echo_app, State(**{**state, "settings": named}), URL, *offered, **headers
    ) as peer:
        await peer.hear()
        assert (await peer.say("hello")).get("code") == code


async def test_socket_is_closed_with_4409_when_the_route_raises_a_conflict(
    echo_app: FastAPI, state: State
) -> None:
    async with dial(echo_app, state, "/busy") as peer:
        closed = [await peer.hear(), await peer.hear()][1]
    assert closed["code"] == 4409
    assert len(closed["reason"].encode()) <= 123
    assert set(closed["reason"]) == {"é"}
