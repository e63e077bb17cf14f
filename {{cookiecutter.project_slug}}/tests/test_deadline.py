"""The request deadline: 504 in time, nothing left behind in PostgreSQL, streams untouched."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from httpx2 import AsyncClient
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.testclient import TestClient

from app.accounts.models import User
from app.database import Database, DatabaseDep, SessionDep
from app.lifespan import build_state
from app.main import create_app
from app.settings import Settings
from tests.conftest import connect

SLEEP = text("SELECT pg_sleep(60)")
ACTIVE = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND query LIKE '%pg_sleep%' AND state <> 'idle' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def hasty_app(settings: Settings) -> FastAPI:
    app = create_app(settings.model_copy(update={"request_deadline_seconds": 0.3}))

    @app.get("/read")
    async def read(database: DatabaseDep) -> None:
        await database.read_one(select(func.pg_sleep(60)))

    @app.post("/write")
    async def write(session: SessionDep) -> None:
        session.add(User(email="late@example.com", password_hash="none"))
        await session.flush()
        await session.execute(SLEEP)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            for number in range(4):
                await asyncio.sleep(0.15)
                yield f"data: {number}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/own-timeout")
    async def own_timeout() -> None:
        raise TimeoutError

    return app


@pytest.fixture
async def hasty(
    hasty_app: FastAPI, settings: Settings, committing_database: Database
) -> AsyncIterator[AsyncClient]:
    async with connect(hasty_app, build_state(settings, committing_database)) as client:
        yield client


async def count_active(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(ACTIVE)).scalar_one())


async def test_request_is_a_504_problem_when_it_is_late(hasty: AsyncClient) -> None:
    response = await hasty.get("/read")
    assert response.json() == {
        "type": "about:blank",
        "title": "Gateway Timeout",
        "status": 504,
        "detail": "The request was not answered within 0.3 s.",
        "request_id": response.headers["x-request-id"],
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/read"), ("POST", "/write")])
async def test_statement_ends_in_postgresql_when_its_request_is_late(
    hasty: AsyncClient, engine: AsyncEngine, method: str, path: str
) -> None:
    assert (await hasty.request(method, path)).status_code == 504
    async with asyncio.timeout(5):
        while await count_active(engine):  # noqa: ASYNC110 (PostgreSQL tells nobody)
            await asyncio.sleep(0.05)


async def test_write_is_rolled_back_when_its_request_is_late(
    hasty: AsyncClient, committing_database: Database
) -> None:
    await hasty.post("/write")
    assert await committing_database.read_one(select(func.count()).select_from(User)) == (0,)


async def test_pool_is_whole_again_when_many_requests_were_late(
    hasty: AsyncClient, engine: AsyncEngine, committing_database: Database
) -> None:
    late = await asyncio.gather(*(hasty.get(path) for path in ["/read"] * 12))
    assert {response.status_code for response in late} == {504}
    reads = [committing_database.read_one(select(func.pg_sleep(0.01))) for _ in range(5)]
    await asyncio.wait_for(asyncio.gather(*reads), timeout=2)
    committing_database.close()
    assert "Current Checked out connections: 0" in engine.pool.status()


async def test_stream_is_not_cut(hasty: AsyncClient) -> None:
    response = await hasty.get("/stream")
    assert response.text.count("data:") == 4


async def test_timeout_of_the_handler_itself_is_no_504(hasty: AsyncClient) -> None:
    assert (await hasty.get("/own-timeout")).status_code == 500


def test_websocket_is_not_cut(hasty_app: FastAPI) -> None:
    @hasty_app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await asyncio.sleep(0.5)
        await websocket.send_text("still here")

    with TestClient(hasty_app).websocket_connect("/socket") as connection:
        assert connection.receive_text() == "still here"
