"""A small app that tests serve with the real gunicorn.conf.py; no database."""

import asyncio
import atexit
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypedDict

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from server.graceful import Drain


class State(TypedDict):
    drain: Drain


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    await asyncio.sleep(float(os.environ.get("BOOT_SECONDS", "0")))
    if "broken" in os.listdir():
        raise RuntimeError("this release is broken")
    while "hanging lifespan" in os.listdir():  # noqa: ASYNC110 (it hangs)
        await asyncio.sleep(60)
    yield State(drain=Drain())
    say("lifespan closed")


def say(what: str) -> None:
    print(what, os.getpid(), flush=True)  # noqa: T201


def say_begins(request: Request) -> None:
    print(f"begins {request.url.path}?{request.url.query}".rstrip("?"), flush=True)  # noqa: T201


def create_app() -> FastAPI:
    atexit.register(say, "atexit")
    while "hanging create_app" in os.listdir():
        time.sleep(60)
    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/pid", read_pid)
    app.add_api_route("/sleep", sleep)
    app.add_api_route("/stall", stall)
    app.add_api_route("/readyz", readyz)
    app.add_api_route("/stream", stream)
    app.add_api_websocket_route("/ws", websocket)
    app.add_api_websocket_route("/flood/ws", flood)
    app.add_api_websocket_route("/late/ws", late)
    return app


async def read_pid() -> int:
    return os.getpid()


async def sleep(request: Request, seconds: float) -> int:
    say_begins(request)
    await asyncio.sleep(seconds)
    return os.getpid()


async def stall(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 (the mistake that the stall limit is for)


async def readyz(request: Request, response: Response) -> None:
    response.status_code = 503 if request.state.drain.stopping else 200


async def stream(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        say_begins(request)
        yield "first\n"
        await request.state.drain.leaving.wait()
        yield "last\n"

    return StreamingResponse(events())


async def websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    try:
        await websocket.receive_text()
    except WebSocketDisconnect:
        say("websocket closed")


async def flood(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect, TimeoutError):
        while True:
            async with asyncio.timeout(1):
                await websocket.send_text("x" * 65_536)
    say("buffers full")


async def late(websocket: WebSocket) -> None:
    say("handshake begins")
    await websocket.state.drain.leaving.wait()
    await websocket.accept()
    await websocket.receive()
