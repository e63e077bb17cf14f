"""The pool, its queue, and the order of commit and response."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from pydantic import PostgresDsn
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.accounts.models import User
from app.database import Database, SessionDep, close_engine, create_engine
from app.errors import UnavailableError
from app.lifespan import build_state
from app.settings import Settings
from tests.conftest import POOL_SIZE, connect

# An engine, how many connections it may use, and how many seconds one is waited for.
NewDatabase = Callable[[AsyncEngine, int, float], Database]


@pytest.fixture
async def new_database() -> AsyncIterator[NewDatabase]:
    """What makes one; the pool has all connections back after the test."""
    made: list[Database] = []

    def make(engine: AsyncEngine, slots: int, wait_seconds: float) -> Database:
        made.append(Database(engine, slots, wait_seconds))
        return made[-1]

    yield make
    for database in made:
        database.close()


async def count_users(database: Database) -> object:
    row = await database.read_one(select(func.count()).select_from(User))
    assert row is not None
    return row[0]


def new_user() -> User:
    return User(email="grace@example.com", password_hash="none")


async def test_read_sends_one_statement_and_no_transaction(
    committing_database: Database, statements: list[str]
) -> None:
    await count_users(committing_database)
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    assert statements == ["SELECT count(*) AS count_1 \nFROM app_user"]


async def test_transaction_commits_at_the_end_of_the_block(committing_database: Database) -> None:
    async with committing_database.transaction() as session:
        session.add(new_user())
    assert await count_users(committing_database) == 1


async def test_transaction_rolls_back_when_the_block_raises(committing_database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with committing_database.transaction() as session:
            session.add(new_user())
            await session.flush()
            raise RuntimeError
    assert await count_users(committing_database) == 0


async def test_commit_is_done_before_the_response_is_sent(
    own_app: FastAPI, settings: Settings, committing_database: Database
) -> None:
    @own_app.post("/write")
    async def write(session: SessionDep) -> None:
        # Checked at commit, so the handler itself succeeds.
        await session.execute(
            text("CREATE TEMP TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
        await session.execute(text("INSERT INTO late VALUES (1), (1)"))

    async with connect(own_app, build_state(settings, committing_database)) as client:
        response = await client.post("/write")
    assert response.status_code == 500


async def test_waiting_for_a_connection_ends_with_503_when_all_are_busy(
    engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database = new_database(engine, 1, 0.05)
    async with database.transaction():
        with pytest.raises(UnavailableError):
            await database.read_one(select(1))


async def test_those_who_wait_are_served_in_order(
    engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database, served = new_database(engine, 1, 3), []

    async def read(number: int) -> None:
        await database.read_one(select(1))
        served.append(number)

    await asyncio.gather(*(read(number) for number in range(20)))
    assert served == sorted(served)


async def test_reads_keep_a_connection_and_hand_it_on_for_a_second(
    engine: AsyncEngine, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkouts: list[object] = []
    event.listen(engine.sync_engine, "checkout", lambda *_arguments: checkouts.append(1))
    database = new_database(engine, 2, 3)
    for _ in range(3):
        await database.read_one(select(1))
    assert len(checkouts) == 1
    monkeypatch.setattr("app.database._KEPT_SECONDS", 0)
    database.close()
    for _ in range(3):
        await database.read_one(select(1))
    assert len(checkouts) == 4


async def test_write_gets_a_connection_when_reads_keep_all_of_them(
    engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database = new_database(engine, POOL_SIZE, 3)
    await asyncio.gather(
        *(database.read_one(select(func.pg_sleep(0.01))) for _ in range(POOL_SIZE))
    )
    assert engine.pool.checkedout() == POOL_SIZE  # type: ignore[attr-defined]
    async with asyncio.timeout(1), database.transaction() as session:
        assert await session.scalar(select(1)) == 1


async def test_closed_connection_is_replaced_when_the_server_has_ended_it(
    settings: Settings, engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database = new_database(engine, 1, 3)
    others = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await asyncio.gather(*(count_users(new_database(engine, 3, 3)) for _ in range(3)))
    async with engine.connect() as connection:
        await connection.execute(others)
    for _ in range(3):
        assert await count_users(database) == 0


@pytest.mark.parametrize("sqlstate", ["57P03", "53300"])
async def test_read_is_503_when_the_server_refuses_to_connect(
    settings: Settings, sqlstate: str, new_database: NewDatabase
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asks_for_tls = await reader.readexactly(8)
        assert asks_for_tls
        writer.write(b"N")
        await reader.read(1000)
        body = f"SFATAL\0C{sqlstate}\0Mnot now\0\0".encode()
        writer.write(b"E" + struct.pack("!i", len(body) + 4) + body)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = PostgresDsn(f"postgresql://app:secret@127.0.0.1:{port}/app")
        engine = create_engine(settings.model_copy(update={"database_url": url}))
        with pytest.raises(UnavailableError):
            await new_database(engine, 1, 3).read_one(select(1))


@asynccontextmanager
async def relayed(settings: Settings) -> AsyncIterator[tuple[Settings, asyncio.Event]]:
    """Settings of a way to the database that hangs as soon as the event is cleared."""
    flows, tasks = asyncio.Event(), asyncio.TaskGroup()
    flows.set()
    host = settings.database_url.hosts()[0]

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await flows.wait()
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host["host"], host["port"])
        tasks.create_task(pass_on(there, writer))
        tasks.create_task(pass_on(reader, back))

    async with tasks, await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = str(settings.database_url).replace(f":{host['port']}/", f":{port}/")
        changes = {"database_url": PostgresDsn(url), "database_command_timeout_seconds": 0.5}
        yield settings.model_copy(update=changes), flows
        flows.set()


async def test_request_is_503_when_the_database_hangs(
    settings: Settings, new_database: NewDatabase
) -> None:
    async with relayed(settings) as (slow, flows):
        engine = create_engine(slow, 2)
        database = new_database(engine, 2, 3)
        assert await count_users(database) == 0
        flows.clear()
        with pytest.raises(UnavailableError):
            await count_users(database)
        flows.set()
        with pytest.raises(UnavailableError):
            async with asyncio.timeout(5), database.transaction() as session:
                await session.execute(select(1))
                flows.clear()
                await session.execute(select(1))
        database.close()
        await close_engine(engine)


async def test_engine_is_closed_when_the_database_hangs(
    settings: Settings, new_database: NewDatabase
) -> None:
    async with relayed(settings) as (slow, flows):
        engine = create_engine(slow)
        database = new_database(engine, 1, 3)
        assert await count_users(database) == 0
        flows.clear()
        database.close()
        async with asyncio.timeout(4):
            await close_engine(engine)


async def test_dead_peer_is_noticed_by_both_sides(settings: Settings, engine: AsyncEngine) -> None:
    if settings.database_url.hosts()[0]["host"] is None:
        pytest.skip("the database is on a unix socket")
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        transport: asyncio.Transport = raw.driver_connection._transport
        ours = transport.get_extra_info("socket")
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 6
        names = ("tcp_user_timeout", "tcp_keepalives_idle")
        columns = (func.current_setting(name) for name in names)
        assert (await connection.execute(select(*columns))).one() == ("12000", "6")


async def test_write_is_503_when_two_wait_for_each_other(
    engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database, both_hold_one = new_database(engine, 2, 3), asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as session:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({first})"))
            await both_hold_one.wait()
            await session.execute(text(f"SELECT pg_advisory_xact_lock({second})"))

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnavailableError, type(None)}


async def test_statement_is_cancelled_with_503_when_it_takes_too_long(
    engine: AsyncEngine, new_database: NewDatabase
) -> None:
    database = new_database(engine, 1, 3)
    with pytest.raises(UnavailableError):
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL statement_timeout = 50"))
            await session.execute(select(func.pg_sleep(10)))
    assert await count_users(database) == 0


async def test_limits_are_set_on_every_connection(database: Database) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit")
    row = await database.read_one(select(*(func.current_setting(name) for name in names)))
    assert row is not None
    assert tuple(row) == ("15s", "5s", "30s", "off")


async def test_no_connection_leaks_when_clients_leave_in_mid_request(
    app: FastAPI,
    settings: Settings,
    engine: AsyncEngine,
    committing_database: Database,
    new_database: NewDatabase,
) -> None:
    database = new_database(engine, 2, 3)
    async with connect(app, build_state(settings, database)) as client:
        for delay_ms in range(40):
            request = asyncio.ensure_future(client.get("/readyz"))
            await asyncio.sleep(delay_ms / 10_000)
            request.cancel()
        assert (await client.get("/readyz")).status_code == 200
    database.close()
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
