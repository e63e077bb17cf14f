"""DATABASE_PGBOUNCER with a real PgBouncer: more clients than connections, in transaction mode."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import Database, create_engine
from app.lifespan import build_state
from app.settings import Settings
from development.ports import free_port
from tests.conftest import PASSWORD, connect, empty_tables
from tests.servers import find_binary, running

pytestmark = pytest.mark.system

# Fewer connections than clients, so that a client meets another one with each transaction.
CONFIGURATION = """
[databases]
* = host={host} port={port} {login}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""
CLIENTS = 20


@pytest.fixture(scope="module")
def pgbouncer_url(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary, folder = find_binary("pgbouncer"), tmp_path_factory.mktemp("pgbouncer")
    url = make_url(database_url)
    port = free_port()
    login = f"user={url.username}" + (f" password={url.password}" if url.password else "")
    configuration = CONFIGURATION.format(
        host=url.host, port=url.port, login=login, listen_port=port
    )
    (folder / "pgbouncer.ini").write_text(configuration)
    # It refuses to run as root.
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    with running([binary, "--quiet", *user, str(folder / "pgbouncer.ini")], port):
        address = url.set(host="127.0.0.1", port=port, password=None)
        yield address.render_as_string(hide_password=False)


@pytest.fixture
async def engine_behind_pgbouncer(
    engine: AsyncEngine, settings: Settings, pgbouncer_url: str
) -> AsyncIterator[AsyncEngine]:
    changes = {"database_url": pgbouncer_url, "database_pgbouncer": True}
    behind = create_engine(Settings.model_validate({**settings.model_dump(), **changes}))
    yield behind
    await behind.dispose()
    await asyncio.to_thread(empty_tables, settings)


async def use(client: AsyncClient, number: int) -> list[int]:
    """One person's way through the service; the status of every answer."""
    email = f"person{number}@example.com"
    credentials = {"username": email, "password": PASSWORD}
    answers = [
        await client.post("/api/v1/users", json={"email": email, "password": PASSWORD}),
        await client.post("/api/v1/auth/token", data=credentials),
    ]
    token = answers[-1].json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    for name in ("one", "two"):
        body = {"full_name": f"{name} {number}"}
        answers.append(await client.patch("/api/v1/users/me", json=body, headers=headers))
        answers.append(await client.get("/api/v1/users/me", headers=headers))
        assert answers[-1].json()["full_name"] == body["full_name"]
    answers.append(await client.get("/api/v1/auth/sessions", headers=headers))
    assert len(answers[-1].json()) == 1
    answers.append(await client.post("/api/v1/auth/logout-all", headers=headers))
    return [answer.status_code for answer in answers]


async def test_everybody_is_served_when_connections_are_shared(
    app: FastAPI, settings: Settings, engine_behind_pgbouncer: AsyncEngine
) -> None:
    database = Database(engine_behind_pgbouncer, slots=5, wait_seconds=10)
    async with connect(app, build_state(settings, database)) as client:
        ways = await asyncio.gather(*(use(client, number) for number in range(CLIENTS)))
    database.close()
    assert ways == [[201, 200, 200, 200, 200, 200, 200, 204]] * CLIENTS


async def test_no_statement_stays_prepared(engine_behind_pgbouncer: AsyncEngine) -> None:
    async with engine_behind_pgbouncer.connect() as connection:
        await connection.execute(text("SELECT 1"))
        left = await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
    assert left == 0
