"""The only way to PostgreSQL: a fair queue in front of one small pool per worker.

Reads are single statements outside of transactions; writes are one transaction per request.
"""

import asyncio
import enum
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, ClassVar, NamedTuple, Self, TypeVarTuple, cast

import asyncpg
from fastapi import Depends
from pydantic import PostgresDsn
from sqlalchemy import URL, ClauseElement, Enum, MetaData, event, make_url
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import TypedReturnsRows
from starlette.requests import HTTPConnection

from app.announcements import Announcements
from app.errors import InvalidInputError, UnavailableError
from app.metrics import SHED, record_statement, watch_statements
from app.peer_timeout import peer_settings, watch_peer
from app.settings import Settings
from app.slots import Slots

# SQLSTATE classes and codes that say "not now" rather than "never":
# connection lost, a standby that only reads, deadlock, too many connections, shutting down,
# statement or lock timeout.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE_SQLSTATES = ("08", "25006", "40", "53", "57P", "57014", "55P03", "25P03")
# A value that no column takes: a NUL character, a number or a date out of range.
_INVALID_VALUE_SQLSTATES = ("22",)
# Statements are module constants; more of them than this would mean one is built per call.
_STATEMENTS_MAX = 1000
# One round trip; the 504 of a late request waits for it, and nginx for that (5 s of slack).
_CLOSE_WITHIN_SECONDS = 2

# PgBouncer in transaction mode gives every transaction another connection of the server, where
# a prepared statement does not exist, or exists with another meaning. The unnamed statement lives
# exactly as long as needed. Defaults: 100, 100 and a new name for each.
# https://www.pgbouncer.org/features.html
_UNPREPARED: dict[str, object] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}

# What SQLAlchemy raises while it connects for the pool; elsewhere it wraps it in a DBAPIError.
ConnectError = AsyncAdapt_asyncpg_dbapi.Error

# Long enough to cost nothing, short enough that DATABASE_POOL_RECYCLE_SECONDS is kept.
_KEPT_SECONDS = 1

Columns = TypeVarTuple("Columns")
# SQL, the names of $1, $2 ..., and the values that the statement itself holds.
_Compiled = tuple[str, Sequence[str], Mapping[str, object]]


class Model(DeclarativeBase):
    type_annotation_map: ClassVar = {
        # Their values, as text with a CHECK: a native type would cost asyncpg a query on each new
        # connection, and no value of it can ever be dropped. Default: a native type of the names.
        enum.Enum: Enum(
            enum.Enum,
            native_enum=False,
            create_constraint=True,
            length=40,
            values_callable=lambda members: [member.value for member in members],
        )
    }
    metadata = MetaData(
        # Alembic can only change a constraint whose name it knows.
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def create_engine(settings: Settings, pool_size: int = 1, *, process: str = "") -> AsyncEngine:
    """Opens no connection yet; `dispose` it when done. `process` is a part of its name there."""
    address = Address.of(settings.database_url)
    engine = create_async_engine(
        address.url,
        pool_size=pool_size,
        # Connections beyond the pool cost 25 % throughput and triple p99. Default: 10.
        max_overflow=0,
        # `Database` lets nobody wait here: its queue is fair and as long as the pool. Default: 30.
        pool_timeout=settings.database_pool_timeout_seconds,
        # The connection used last is the one whose caches are warm. Default: False.
        pool_use_lifo=True,
        pool_recycle=settings.database_pool_recycle_seconds,
        # A ping costs three round trips for each checkout; `_refuse_closed` costs none.
        pool_pre_ping=False,
        # Errors carry no parameters: they may be passwords or tokens. Default: False.
        hide_parameters=True,
        connect_args={
            "timeout": settings.database_connect_timeout_seconds,
            "command_timeout": settings.database_command_timeout_seconds,
            "server_settings": server_settings(settings, process),
            **address.tls,
            **(_UNPREPARED if settings.database_pgbouncer else {}),
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    watch = partial(watch_peer, timeout_seconds=settings.database_peer_timeout_seconds)
    event.listen(engine.sync_engine, "connect", watch)
    watch_statements(engine.sync_engine)
    return engine


async def close_engine(engine: AsyncEngine) -> None:
    """A database that hangs does not say goodbye; the connections then end with the process."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_WITHIN_SECONDS):
            await engine.dispose()


@dataclass(frozen=True)
class Address:
    """A DATABASE_URL as the driver takes it: `url` without what libpq says there about TLS."""

    url: URL
    tls: dict[str, object]

    @classmethod
    def of(cls, url: PostgresDsn) -> Self:
        """With the driver of this service, whatever scheme the platform hands out."""
        _, _, rest = str(url).partition("://")
        given = make_url(f"postgresql+asyncpg://{rest}")
        mode, certificates = given.query.get("sslmode"), given.query.get("sslrootcert")
        return cls(
            given.difference_update_query(["sslmode", "sslrootcert"]),
            {"ssl": _tls(str(mode), str(certificates or "system"))} if mode else {},
        )


def _tls(mode: str, certificates: str) -> ssl.SSLContext | str:
    """Modes as in libpq; the driver knows those that verify nothing.

    https://www.postgresql.org/docs/current/libpq-ssl.html
    """
    if mode not in ("verify-ca", "verify-full"):
        return mode
    # Default of the driver: ~/.postgresql/root.crt, which no container has.
    context = ssl.create_default_context(cafile=None if certificates == "system" else certificates)
    context.check_hostname = mode == "verify-full"
    return context


def server_settings(settings: Settings, process: str = "") -> dict[str, str]:
    """What PostgreSQL itself enforces on each connection, in its units (milliseconds)."""
    name = {"application_name": f"{settings.service_name}{process}:{os.getpid()}"[:63]}
    if settings.database_pgbouncer:
        return name  # it refuses the others, because connections are shared
    idle_seconds = settings.idle_in_transaction_session_timeout_seconds
    return {
        **name,
        **peer_settings(settings.database_peer_timeout_seconds),
        "statement_timeout": str(int(settings.statement_timeout_seconds * 1000)),
        "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(int(idle_seconds * 1000)),
        # Compiling a plan never pays for statements of a few milliseconds. Default: on.
        "jit": "off",
    }


def _refuse_closed(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    # The driver knows without asking when the server has closed the socket;
    # the pool then replaces the connection before anybody notices.
    driver = cast("asyncpg.Connection[asyncpg.Record]", connection.driver_connection)
    if driver.is_closed():
        raise DisconnectionError


class _KeptConnection(NamedTuple):
    connection: PoolProxiedConnection
    driver: "asyncpg.Connection[asyncpg.Record]"
    # A time of the monotonic clock.
    until: float


class Database:
    """Shared by all requests of a worker; made in the lifespan."""

    def __init__(self, engine: AsyncEngine, slots: int, wait_seconds: float) -> None:
        self._engine = engine
        # Sent to all workers by app/events.
        self.announcements = Announcements()
        self._sessions = self.announcements.new_sessionmaker(engine)
        self._slots = Slots(slots, wait_seconds)
        # Reads hand connections to each other: taking one out of the pool and back costs 50 us.
        self._kept: list[_KeptConnection] = []
        self._compile = lru_cache(_STATEMENTS_MAX)(self._compile_uncached)

    async def read_one(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object] | None = None
    ) -> tuple[*Columns] | None:
        """The first row or None; see `read_all`."""
        rows = await self.read_all(statement, parameters)
        return rows[0] if rows else None

    async def read_all(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object] | None = None
    ) -> Sequence[tuple[*Columns]]:
        """All rows, as tuples of what the driver gives: one round trip, no transaction.

        The statement goes to the driver of a pooled connection: 52 us instead of the 239 us of a
        SQLAlchemy connection. So no ORM objects and no Python-side types; for a list of values
        write `column = ANY(:values)`.
        """
        return await self._execute(statement, parameters, may_retry=True)

    async def write_one(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object]
    ) -> tuple[*Columns]:
        """The row that it returns; of one statement alone, which is a transaction of its own.

        As quick as a read, and as bare: see `read_all`. What needs more than one statement, or
        reads before it decides, is a `transaction`.
        """
        return (await self._execute(statement, parameters, may_retry=False))[0]

    async def _execute(
        self,
        statement: TypedReturnsRows[*Columns],
        parameters: Mapping[str, object] | None,
        *,
        may_retry: bool,
    ) -> Sequence[tuple[*Columns]]:
        sql, names, constants = self._compile(statement)
        values = {**constants, **parameters} if parameters else constants
        arguments = [values[name] for name in names]
        # Not `_slot`: a context manager made of a generator costs 12 us.
        taken_at = await self._slots.take()
        try:
            rows = await self._fetch(sql, arguments, may_retry=may_retry)
            record_statement(sql, taken_at)
        except BaseException as error:
            record_statement(sql, taken_at, error)
            if isinstance(error, Exception):
                _raise_for_client(error)
            raise
        finally:
            self._slots.give_back(taken_at)
        return cast("Sequence[tuple[*Columns]]", rows)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: commits at the end of the block, rolls back on any exception."""
        async with self._slot():
            # The pool is as large as the queue lets in: what reads keep may be the last one.
            self._give_back(1)
            async with self._sessions.begin() as session:
                yield session

    def measure(self) -> None:
        self._slots.measure()

    def close(self) -> None:
        """The pool gets back what reads have kept."""
        self._give_back(len(self._kept))

    def _give_back(self, count: int) -> None:
        for kept in self._kept[:count]:
            kept.connection.close()
        del self._kept[:count]

    async def _take(self) -> _KeptConnection:
        """The one used last, while it is fresh; the pool looks at its age and health otherwise."""
        now = time.monotonic()
        while self._kept:
            kept = self._kept.pop()
            if now < kept.until and not kept.driver.is_closed():
                return kept
            kept.connection.close()
        connection = await self._engine.raw_connection()
        driver = cast("asyncpg.Connection[asyncpg.Record]", connection.driver_connection)
        return _KeptConnection(connection, driver, now + _KEPT_SECONDS)

    def _compile_uncached(self, statement: object) -> _Compiled:
        compiled = cast("ClauseElement", statement).compile(dialect=self._engine.dialect)
        sql = cast("SQLCompiler", compiled)
        given = {name: bind for name, bind in sql.binds.items() if not bind.required}
        constants = {name: bind.effective_value for name, bind in given.items()}
        return sql.string, tuple(sql.positiontup or ()), constants

    async def _fetch(
        self, sql: str, arguments: Sequence[object], *, may_retry: bool
    ) -> Sequence[asyncpg.Record]:
        kept = await self._take()
        connection, driver = kept.connection, kept.driver
        try:
            rows = await driver.fetch(sql, *arguments)
        except asyncio.CancelledError:
            # PostgreSQL would work on until statement_timeout: `invalidate` alone also takes back
            # the driver's request to cancel.
            try:
                await asyncio.shield(_close(driver))
            finally:
                connection.invalidate()
            raise
        except BaseException as error:
            was_closed = driver.is_closed()
            # Failed halfway: whoever comes next must not read the rest.
            connection.invalidate()
            if was_closed and may_retry and isinstance(error, Exception):
                # The server had closed an idle connection; a read may simply be sent again.
                return await self._fetch(sql, arguments, may_retry=False)
            raise
        self._kept.append(kept)
        return rows

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        taken_at = await self._slots.take()
        try:
            yield
        except Exception as error:
            _raise_for_client(error)
            raise
        finally:
            self._slots.give_back(taken_at)


async def _close(driver: "asyncpg.Connection[asyncpg.Record]") -> None:
    with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await driver.close(timeout=_CLOSE_WITHIN_SECONDS)


def _raise_for_client(error: Exception) -> None:
    """Raises what the client can act upon; returns when it is our mistake."""
    if isinstance(error, asyncpg.DataError):
        # The driver's own: text that UTF-8 cannot say, a number out of range.
        raise InvalidInputError("A value cannot be stored.") from error
    # The last one: the end of the session arrives just as a statement is sent.
    if isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        SHED.add(1, "database")
        raise UnavailableError("The database cannot be reached.", 5) from error
    if not isinstance(error, (DBAPIError, ConnectError, asyncpg.PostgresError)):
        return
    cause = error.orig if isinstance(error, DBAPIError) else error
    sqlstate = getattr(cause, "sqlstate", None) or ""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or sqlstate.startswith(_UNAVAILABLE_SQLSTATES):
        SHED.add(1, "database")
        raise UnavailableError("The database is not available at the moment.") from error
    if sqlstate.startswith(_INVALID_VALUE_SQLSTATES):
        raise InvalidInputError("A value cannot be stored.") from error


async def get_database(connection: HTTPConnection) -> Database:
    return cast("Database", connection.state.database)


DatabaseDep = Annotated[Database, Depends(get_database)]


async def get_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        yield session


# scope="function": the commit happens before the response is sent, so a 201 is never a lie.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
