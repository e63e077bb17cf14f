"""The live database: its limits, its version, the timeouts that arrive there, its revision."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import create_engine, server_settings
from doctor.finding import Finding, error, warning
from doctor.settings import AllSettings
from server.capacity import Plan

_WITHIN_SECONDS = 10
# Migrations, `manage`, psql, backups and monitoring, at the same time as the service.
_SPARE_CONNECTIONS = 7
# 14 has had no fixes since November 2026. https://www.postgresql.org/support/versioning/
_VERSION_MIN = 15
_TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_RESERVED = ("superuser_reserved_connections", "reserved_connections")


@dataclass(frozen=True)
class Server:
    """`settings` as pg_settings has them in a session of this service: times in ms."""

    settings: Mapping[str, int]
    connections: int
    revisions: frozenset[str]

    @property
    def usable_connections(self) -> int:
        reserved = sum(self.settings.get(name, 0) for name in _RESERVED)
        return self.settings["max_connections"] - reserved


async def read_server(settings: AllSettings) -> tuple[Server | None, list[Finding]]:
    engine = create_engine(settings)
    try:
        async with asyncio.timeout(_WITHIN_SECONDS), engine.connect() as connection:
            return await _read(connection), []
    except (OSError, TimeoutError, SQLAlchemyError) as raised:
        return None, [_unreachable(raised)]
    finally:
        await engine.dispose()


def check_server(server: Server, settings: AllSettings, plan: Plan) -> list[Finding]:
    return [
        # Behind PgBouncer its pool counts, not ours: deploy/compose/pgbouncer.ini.
        *([] if settings.database_pgbouncer else _check_connections(server, plan)),
        *_check_version(server),
        *_check_timeouts(server, settings),
    ]


def check_revision(root: Path, server: Server) -> list[Finding]:
    file = root / "alembic.ini"
    if not file.is_file():
        return []
    heads = frozenset(ScriptDirectory.from_config(Config(file)).get_heads())
    if server.revisions == heads:
        return []
    at, newest = (", ".join(sorted(names)) or "none" for names in (server.revisions, heads))
    return [
        error(
            "migrations",
            f"The database is at revision {at}, the code at {newest}.",
            "migrations/versions",
            "Queries fail on tables and columns that are not there.",
            "Run `make migrate`, or `manage migrate` in a container.",
        )
    ]


async def _read(connection: AsyncConnection) -> Server:
    names = ("max_connections", "server_version_num", *_RESERVED, *_TIMEOUTS)
    rows = await connection.execute(
        text("SELECT name, setting::int FROM pg_settings WHERE name = ANY(:names)"),
        {"names": list(names)},
    )
    settings = {str(name): int(value) for name, value in rows}
    count = await connection.scalar(
        text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    )
    revisions: frozenset[str] = frozenset()
    if await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        found = await connection.scalars(text("SELECT version_num FROM alembic_version"))
        revisions = frozenset(str(one) for one in found)
    return Server(settings, int(count or 0), revisions)


def _check_connections(server: Server, plan: Plan) -> Iterator[Finding]:
    room = server.usable_connections - _SPARE_CONNECTIONS
    needs = max(plan.connections, plan.connection_budget)
    if needs <= room:
        return
    # The budget is a promise to stay below; it is only broken when the plan needs it.
    is_broken = plan.connections > room
    report = error if is_broken else warning
    yield report(
        "connection budget",
        f"{plan.connections if is_broken else plan.connection_budget} connections are planned,"
        f" PostgreSQL has {room} left (max_connections"
        f" {server.settings['max_connections']} less reserved ones and {_SPARE_CONNECTIONS} spare;"
        f" {server.connections} are open now).",
        "DATABASE_CONNECTION_BUDGET",
        "Over the limit PostgreSQL refuses: too many clients already.",
        f"Write DATABASE_CONNECTION_BUDGET={max(1, room)}, or raise max_connections.",
    )


def _check_version(server: Server) -> Iterator[Finding]:
    version = server.settings["server_version_num"] // 10_000
    if version < _VERSION_MIN:
        yield warning(
            "database",
            f"PostgreSQL {version} gets no fixes any more.",
            "DATABASE_URL",
            "Known holes stay open.",
            f"Move to {_VERSION_MIN} or newer.",
        )


def _check_timeouts(server: Server, settings: AllSettings) -> Iterator[Finding]:
    # What a direct connection asks for; behind PgBouncer somebody else must set the same.
    wanted = server_settings(settings.model_copy(update={"database_pgbouncer": False}))
    for name in _TIMEOUTS:
        if server.settings.get(name) != int(wanted[name]):
            yield error(
                "timeouts",
                f"{name} is {server.settings.get(name)} ms in the session, not {wanted[name]}.",
                f"{name.upper()}_SECONDS",
                "A pooler or the role overrides it, and nothing ends a statement in time.",
                "Set it for the role, or in PgBouncer's connect_query.",
            )


def _unreachable(raised: Exception) -> Finding:
    cause = getattr(raised, "orig", None) or raised
    reason = str(cause).partition("\n")[0] or type(cause).__name__
    return error(
        "database",
        f"The database cannot be asked: {reason.rstrip('.')}.",
        "DATABASE_URL",
        "Its limits, timeouts and revision are not checked.",
        "Start it, or correct DATABASE_URL.",
    )
