"""The only way to PostgreSQL: one small pool per worker with a fair queue in front of it.

Reads are single statements on autocommit connections; writes are one transaction per request.
The next hop is a domain's `repository.py`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Protocol, TypeVarTuple, cast

from fastapi import Depends, Request
from sqlalchemy import MetaData, Row, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.errors import InvalidInputError, UnavailableError
from app.settings import Settings

# SQLSTATE classes and codes that say "not now" rather than "never":
# connection lost, too many connections, shutting down, statement or lock timeout.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNAVAILABLE_SQLSTATES = ("08", "53", "57P", "57014", "55P03")
# A value that no column takes: a NUL character, a number or a date out of range.
_INVALID_VALUE_SQLSTATES = ("22",)


Columns = TypeVarTuple("Columns")


class Model(DeclarativeBase):
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


class Database:
    """Shared by all requests of a worker; made in the lifespan."""

    def __init__(self, engine: AsyncEngine, slots: int, wait_seconds: float) -> None:
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        # The pool of SQLAlchemy lets newcomers overtake: p99 was 585 ms, with this queue 194 ms.
        self._slots = asyncio.Semaphore(slots)
        self._wait_seconds = wait_seconds

    async def read_one(
        self,
        statement: TypedReturnsRows[*Columns],
        parameters: Mapping[str, object] | None = None,
    ) -> Row[*Columns] | None:
        """The first row or None: one statement, one round trip, no transaction."""
        rows = await self.read_all(statement, parameters)
        return rows[0] if rows else None

    async def read_all(
        self,
        statement: TypedReturnsRows[*Columns],
        parameters: Mapping[str, object] | None = None,
    ) -> Sequence[Row[*Columns]]:
        """All rows: one statement, one round trip, no transaction."""
        async with self._slot():
            try:
                return await self._read(statement, parameters)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # The server closed an idle connection; a read may simply be sent again.
                return await self._read(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction: commits at the end of the block, rolls back on any exception."""
        async with self._slot(), self._sessions.begin() as session:
            yield session

    async def _read(
        self, statement: TypedReturnsRows[*Columns], parameters: Mapping[str, object] | None
    ) -> Sequence[Row[*Columns]]:
        async with self._reader.connect() as connection:
            return (await connection.execute(statement, parameters)).all()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        await self._wait_for_slot()
        try:
            yield
        except OSError as error:
            raise UnavailableError("The database cannot be reached.", 5) from error
        except DBAPIError as error:
            if error.connection_invalidated or _sqlstate(error).startswith(_UNAVAILABLE_SQLSTATES):
                raise UnavailableError("The database is not available at the moment.") from error
            if _sqlstate(error).startswith(_INVALID_VALUE_SQLSTATES):
                raise InvalidInputError("A value cannot be stored.") from error
            raise
        finally:
            self._slots.release()

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise UnavailableError("All database connections are busy.") from error


def create_engine(settings: Settings) -> AsyncEngine:
    engine = create_async_engine(
        database_url(settings),
        pool_size=settings.database_pool_size,
        # Connections beyond the pool cost 25 % throughput and triple p99. Default: 10.
        max_overflow=0,
        # The fair queue waits instead of the pool, so this is never reached. Default: 30.
        pool_timeout=settings.database_pool_wait_seconds,
        # The connection used last is the one whose caches are warm. Default: False.
        pool_use_lifo=True,
        pool_recycle=settings.database_pool_recycle_seconds,
        # No ping per checkout: it costs three round trips here. `_refuse_closed` costs none.
        pool_pre_ping=False,
        # One round trip for a read instead of two. Default: False.
        skip_autocommit_rollback=True,
        # Errors carry no parameters: they may be passwords or tokens. Default: False.
        hide_parameters=True,
        connect_args={
            "timeout": settings.database_connect_timeout_seconds,
            "server_settings": server_settings(settings),
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def database_url(settings: Settings) -> str:
    """With the driver that this service uses, whatever scheme the platform hands out."""
    _, _, rest = str(settings.database_url).partition("://")
    return f"postgresql+asyncpg://{rest}"


def server_settings(settings: Settings) -> dict[str, str]:
    """What PostgreSQL itself enforces on each connection, in its units (milliseconds)."""
    return {
        "application_name": f"{settings.service_name}:{os.getpid()}"[:63],
        "statement_timeout": str(int(settings.statement_timeout_seconds * 1000)),
        "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(
            int(settings.idle_in_transaction_session_timeout_seconds * 1000)
        ),
        # Compiling a plan never pays for statements of a few milliseconds. Default: on.
        "jit": "off",
    }


class _DriverConnection(Protocol):
    def is_closed(self) -> bool: ...


def _refuse_closed(connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    # The driver knows without asking when the server has closed the socket;
    # the pool then replaces the connection before anybody notices.
    driver = cast("_DriverConnection", connection.driver_connection)
    if driver.is_closed():
        raise DisconnectionError


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


async def get_database(request: Request) -> Database:
    return cast("Database", request.state.database)


DatabaseDep = Annotated[Database, Depends(get_database)]


async def get_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
    async with database.transaction() as session:
        yield session


# scope="function": the commit happens before the response is sent, so a 201 is never a lie.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
