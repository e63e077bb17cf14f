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
from doctor.finding import Finding, mistake
from doctor.settings import AllSettings
from server.capacity import Plan, count_jobs_connections

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
        *([] if settings.database_pgbouncer else _check_connections(server, settings, plan)),
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
    return [mistake("database_revision", "migrations/versions", at=at, newest=newest)]


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


def _check_connections(server: Server, settings: AllSettings, plan: Plan) -> Iterator[Finding]:
    others = _SPARE_CONNECTIONS + count_jobs_connections(settings)
    room = server.usable_connections - others
    needs = max(plan.connections, plan.connection_budget)
    if needs <= room:
        return
    # The budget is a promise to stay below; it is only broken when the plan needs it.
    is_broken = plan.connections > room
    yield mistake(
        "database_over_limit" if is_broken else "database_over_budget",
        "DATABASE_CONNECTION_BUDGET",
        planned=plan.connections if is_broken else plan.connection_budget,
        room=room,
        most=server.settings["max_connections"],
        spare=others,
        connections=server.connections,
        least=max(1, room),
    )


def _check_version(server: Server) -> Iterator[Finding]:
    version = server.settings["server_version_num"] // 10_000
    if version < _VERSION_MIN:
        yield mistake("database_version", "DATABASE_URL", version=version, oldest=_VERSION_MIN)


def _check_timeouts(server: Server, settings: AllSettings) -> Iterator[Finding]:
    # What a direct connection asks for; behind PgBouncer somebody else must set the same.
    wanted = server_settings(settings.model_copy(update={"database_pgbouncer": False}))
    for name in _TIMEOUTS:
        if server.settings.get(name) != int(wanted[name]):
            yield mistake(
                "database_timeout",
                f"{name.upper()}_SECONDS",
                name=name,
                milliseconds=server.settings.get(name),
                wanted=wanted[name],
            )


def _unreachable(raised: Exception) -> Finding:
    cause = getattr(raised, "orig", None) or raised
    reason = str(cause).partition("\n")[0] or type(cause).__name__
    return mistake("database_unreachable", "DATABASE_URL", reason=reason.rstrip("."))
