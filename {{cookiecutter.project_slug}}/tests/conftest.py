"""A migrated PostgreSQL database per test process, a rollback per test, a client on the app."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import URL, NullPool, event, make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.types import ASGIApp, Receive, Scope, Send

from app.accounts.models import RefreshToken, Session, User
from app.accounts.roles import SCOPES, Role
from app.accounts.tokens import issue_access_token
from app.database import Database, create_engine
from app.lifespan import State, build_state
from app.main import create_app
from app.settings import Settings
from development import postgres
from tests.mailbox import Mailbox, running_mailbox
from tests.rollback import RollbackDatabase
from tests.servers import wait_until

# The fixtures of an administrator.
pytest_plugins = ["tests.admins"]

PASSWORD = "correct horse battery staple"
POOL_SIZE = 5
# https://www.postgresql.org/docs/current/errcodes-appendix.html
DEADLOCK = "40P01"


@dataclass(frozen=True)
class SignedInUser:
    id: UUID
    email: str
    headers: dict[str, str]


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """structlog's default shows the values of all variables, which takes a second each."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> None:
    """Run in the background, this process ignores them, and all that it starts would as well."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands configure it for themselves."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def owner_url() -> Iterator[str]:
    """A database of this process alone, built by the migrations, dropped at the end."""
    server = make_url(os.environ.get("DATABASE_URL") or postgres.start())
    server = server.set(drivername="postgresql+asyncpg")
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{uuid4().hex[:8]}"
    execute(server, f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def database_url(owner_url: str) -> str:
    """With the rights that the service has in production: a grant that is missing is seen here."""
    return owner_url if os.environ.get("DATABASE_URL") else postgres.service_address(owner_url)


def execute(url: str | URL, *statements: str) -> None:
    """Outside of any transaction."""
    asyncio.run(_execute(url, *statements))


async def _execute(url: str | URL, *statements: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))


def empty_tables(settings: Settings) -> None:
    """As their owner; the audit log lets nobody else delete, tests neither."""
    url = str(settings.database_owner_url)
    execute(url, "ALTER TABLE audit_entry DISABLE TRIGGER USER")
    wait_until(lambda: _truncate(url))
    execute(url, "ALTER TABLE audit_entry ENABLE TRIGGER USER")


def _truncate(url: str) -> bool:
    """False after a deadlock: a stream that is about to end reads tables in another order."""
    try:
        execute(url, "TRUNCATE app_user, throttle_bucket, audit_entry, procrastinate_jobs CASCADE")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != DEADLOCK:
            raise
        return False
    return True


@pytest.fixture(scope="session")
def settings(database_url: str, owner_url: str) -> Settings:
    return Settings.model_validate(
        {
            "environment": "test",
            "database_url": database_url,
            "database_owner_url": owner_url,
            "secret_key": "0123456789abcdefghijklmnopqrstuv",
            # The cheapest that argon2 allows: tests are about behaviour, not about cost.
            "password_memory_cost_kib": 8,
            "password_time_cost": 1,
            "password_parallelism": 1,
        }
    )


@pytest.fixture(scope="session")
def alembic_config(settings: Settings) -> Config:
    # Another checkout's migrations under this one's code: .github/workflows/compatibility.yml.
    own = Path(__file__).parent.parent / "alembic.ini"
    config = Config(os.environ.get("ALEMBIC_CONFIG") or own)
    config.attributes["settings"] = settings
    return config


@pytest.fixture(scope="session")
def migrated(alembic_config: Config) -> None:
    command.upgrade(alembic_config, "head")


@pytest.fixture(scope="session")
def all_statements() -> list[str]:
    return []


@pytest.fixture(scope="session")
async def engine(
    settings: Settings, migrated: None, all_statements: list[str]
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(settings, POOL_SIZE)

    def record_reads(connection: AsyncAdapt_asyncpg_connection, _record: object) -> None:
        driver = connection.driver_connection
        driver.add_query_logger(lambda logged: all_statements.append(logged.query))

    def record_writes(_connection: object, _cursor: object, sql: str, *_rest: object) -> None:
        all_statements.append(sql)

    event.listen(engine.sync_engine, "connect", record_reads)
    event.listen(engine.sync_engine, "before_cursor_execute", record_writes)
    yield engine
    await engine.dispose()


@pytest.fixture
async def database(engine: AsyncEngine) -> AsyncIterator[Database]:
    """What a test writes is rolled back; requests of one test must not overlap."""
    async with engine.connect() as connection:
        transaction = await connection.begin()
        await connection.execute(text("SELECT 1"))  # the driver begins with the first statement
        yield RollbackDatabase(engine, connection)
        await transaction.rollback()


@pytest.fixture
async def committing_database(engine: AsyncEngine, settings: Settings) -> AsyncIterator[Database]:
    """The real one, for what needs a commit or several connections; emptied afterwards."""
    database = Database(engine, POOL_SIZE, settings.database_pool_timeout_seconds)
    yield database
    database.close()
    await asyncio.to_thread(empty_tables, settings)


@pytest.fixture
def state(settings: Settings, database: Database) -> State:
    return build_state(settings, database)


@pytest.fixture(scope="session")
def app(settings: Settings) -> FastAPI:
    """One for all tests, for its first request costs 50 ms; it keeps nothing of them."""
    return create_app(settings)


@pytest.fixture
def own_app(settings: Settings) -> FastAPI:
    """For tests that add routes."""
    return create_app(settings)


@pytest.fixture
async def client(app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    async with connect(app, state) as client:
        yield client


@asynccontextmanager
async def connect(
    app: ASGIApp, state: State, base_url: str = "http://service"
) -> AsyncIterator[AsyncClient]:
    """A client whose requests find `state`, as they would find it after the lifespan."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        shared: MutableMapping[str, object] = {**state}
        await app({**scope, "state": shared}, receive, send)

    transport = ASGITransport(with_state, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


async def sign_up(state: State, email: str) -> SignedInUser:
    """The rows of a login without its way: hundreds of tests begin here."""
    password_hash = await state["authenticator"].hasher.hash(PASSWORD)
    user = User(email=email, password_hash=password_hash, role=Role.MEMBER)
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    login = Session(owner=user, expires_at=ends_at, scope=Role.MEMBER.grant(SCOPES))
    async with state["database"].transaction() as session:
        session.add(login)
        await session.flush()
        session.add(RefreshToken(session_id=login.id, token_hash=login.id.bytes))
    token = issue_access_token(state["token_keys"], user.id, login.id, login.scope)
    return SignedInUser(user.id, email, {"Authorization": f"Bearer {token}"})


@pytest.fixture
async def user(state: State) -> SignedInUser:
    return await sign_up(state, "ada@example.com")


@pytest.fixture
async def stranger(state: State) -> SignedInUser:
    return await sign_up(state, "eve@example.com")


@pytest.fixture
def statements(engine: AsyncEngine, all_statements: list[str]) -> list[str]:
    """Every statement that is sent to PostgreSQL while the test runs."""
    all_statements.clear()
    return all_statements


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with running_mailbox() as mailbox:
        yield mailbox
