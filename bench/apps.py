"""What the comparisons serve: the same three answers by several frameworks, each made when asked.

Runs in the environment of the group `comparisons`. `/json` answers at once, `/wait` after 50 ms,
as a call to another service would, and `/read` asks PostgreSQL for one row by its key.
"""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager

WAIT_SECONDS = 0.05
ANSWER = {"status": "ok"}
STATEMENT = "SELECT relname FROM pg_class WHERE oid = 1259"
POOL_SIZE = 2


def flask_app():
    from flask import Flask

    app = Flask("bench")

    @app.get("/json")
    @app.get("/readyz")
    def at_once():
        return ANSWER

    @app.get("/wait")
    def wait():
        time.sleep(WAIT_SECONDS)
        return ANSWER

    return app


@asynccontextmanager
async def pool():
    import asyncpg

    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    async with asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        yield pool


@asynccontextmanager
async def lifespan(app):
    async with pool() as app.state.pool:
        yield


async def answer_to(path, pool):
    if path == "/wait":
        await asyncio.sleep(WAIT_SECONDS)
    if path == "/read":
        return {"name": await pool.fetchval(STATEMENT)}
    return ANSWER


def bare_app():
    state = {}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            async with pool() as state["pool"]:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = json.dumps(await answer_to(scope["path"], state["pool"])).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def starlette_app():
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(request):
        return JSONResponse(await answer_to(request.url.path, request.app.state.pool))

    paths = ("/json", "/wait", "/read", "/readyz")
    return Starlette(routes=[Route(path, answer) for path in paths], lifespan=lifespan)


def fastapi_app():
    from fastapi import FastAPI
    from pydantic import BaseModel

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    class Row(BaseModel):
        id: int
        title: str

    # 100 bytes of JSON, with the comma after it.
    row = Row(id=1_000_000, title="x" * 74)

    @app.get("/rows/{count}")
    async def rows(count: int) -> list[Row]:
        return [row] * count

    @app.get("/json")
    @app.get("/readyz")
    async def at_once() -> dict[str, str]:
        return ANSWER

    @app.get("/wait")
    async def wait() -> dict[str, str]:
        await asyncio.sleep(WAIT_SECONDS)
        return ANSWER

    @app.get("/wait-in-a-thread")
    def wait_in_a_thread() -> dict[str, str]:
        time.sleep(WAIT_SECONDS)
        return ANSWER

    @app.get("/read")
    async def read() -> dict[str, str]:
        return await answer_to("/read", app.state.pool)

    return app


def litestar_app():
    from litestar import Litestar, get

    @get(["/json", "/readyz"])
    async def at_once() -> dict[str, str]:
        return ANSWER

    @get("/read")
    async def read() -> dict[str, str]:
        return await answer_to("/read", app.state.pool)

    app = Litestar([at_once, read], lifespan=[lifespan], openapi_config=None)
    return app


def sqlalchemy_app():
    """One read with SQLAlchemy's Core; PRE_PING and AUTOCOMMIT choose how."""
    from fastapi import FastAPI
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    options = {"pool_pre_ping": os.environ.get("PRE_PING") == "1"}
    if os.environ.get("AUTOCOMMIT") == "1":
        options["isolation_level"] = "AUTOCOMMIT"
    url = os.environ["DATABASE_URL"]
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, **options)
    app, statement = FastAPI(openapi_url=None), text(STATEMENT)

    @app.get("/readyz")
    @app.get("/read")
    async def read() -> dict[str, str]:
        async with engine.connect() as connection:
            return {"name": await connection.scalar(statement)}

    return app


async def ticks():
    while True:
        yield "data: tick\n\n"
        await asyncio.sleep(0.2)


def trial_app():
    """For conformance.py: it waits, streams, stalls, says which process it is, or cannot start."""
    if os.path.exists(os.environ["BREAKS_WHEN_THERE"]):
        raise RuntimeError("The new code is broken.")
    from fastapi import FastAPI, Response, WebSocket
    from fastapi.responses import StreamingResponse

    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def process_id() -> Response:
        return Response(str(os.getpid()))

    @app.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(2)
        return ANSWER

    @app.post("/refuse")
    async def refuse() -> Response:
        return Response(status_code=413)

    @app.get("/stall")
    async def stall() -> dict[str, str]:
        time.sleep(30)  # noqa: ASYNC251 (that is the trial)
        return ANSWER

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for message in socket.iter_text():
            await socket.send_text(message)

    return app
