"""The SQLAlchemy engine: a small pool whose every number has a reason; used by `database.py`."""

import os
from typing import Protocol, cast

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.settings import Settings

# PgBouncer in transaction mode gives every transaction another connection of the server, where
# a prepared statement does not exist, or exists with another meaning. The unnamed statement lives
# exactly as long as needed. Defaults: 100, 100 and a new name for each.
# https://www.pgbouncer.org/features.html
_UNPREPARED: dict[str, object] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


def create_engine(settings: Settings, pool_size: int = 1) -> AsyncEngine:
    """Opens no connection yet; `dispose` it when done."""
    engine = create_async_engine(
        database_url(settings),
        pool_size=pool_size,
        # Connections beyond the pool cost 25 % throughput and triple p99. Default: 10.
        max_overflow=0,
        # `Database` lets nobody wait here: its queue is fair and as long as the pool. Default: 30.
        pool_timeout=settings.database_pool_wait_seconds,
        # The connection used last is the one whose caches are warm. Default: False.
        pool_use_lifo=True,
        pool_recycle=settings.database_pool_recycle_seconds,
        # A ping costs three round trips for each checkout; `_refuse_closed` costs none.
        pool_pre_ping=False,
        # Errors carry no parameters: they may be passwords or tokens. Default: False.
        hide_parameters=True,
        connect_args={
            "timeout": settings.database_connect_timeout_seconds,
            "server_settings": server_settings(settings),
            **(_UNPREPARED if settings.database_pgbouncer else {}),
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
    name = {"application_name": f"{settings.service_name}:{os.getpid()}"[:63]}
    if settings.database_pgbouncer:
        return name  # it refuses the others, because connections are shared
    idle_seconds = settings.idle_in_transaction_session_timeout_seconds
    return {
        **name,
        "statement_timeout": str(int(settings.statement_timeout_seconds * 1000)),
        "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(int(idle_seconds * 1000)),
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
