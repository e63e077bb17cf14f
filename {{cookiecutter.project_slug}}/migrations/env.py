"""How Alembic reaches the database: the service's own settings, one connection, one lock."""

import asyncio

from alembic import context
from sqlalchemy import Connection, func, pool, select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.engine import database_url
from app.models import Model
from app.settings import Settings, load_settings

# Any constant will do; the same for everybody who migrates this database.
ADVISORY_LOCK = 4_207_718_113
# Replicas that start together wait this long for the one that works.
LOCK_WAIT_SECONDS = 300


def run_migrations(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Model.metadata,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate(settings: Settings) -> None:
    # No statement timeout here: building an index may take an hour.
    engine = create_async_engine(
        database_url(settings),
        poolclass=pool.NullPool,
        connect_args={"server_settings": {"application_name": "migrate"}},
    )
    async with engine.connect() as guard, engine.connect() as connection:
        await wait_for_lock(await guard.execution_options(isolation_level="AUTOCOMMIT"))
        await connection.run_sync(run_migrations)
    await engine.dispose()


async def wait_for_lock(guard: AsyncConnection) -> None:
    # Asked for again and again: a statement that waits holds a snapshot, and
    # CREATE INDEX CONCURRENTLY of the one that works would wait for that snapshot for ever.
    # The lock ends with the connection, so a killed migration leaves none behind.
    take = select(func.pg_try_advisory_lock(ADVISORY_LOCK))
    async with asyncio.timeout(LOCK_WAIT_SECONDS):
        while not await guard.scalar(take):  # noqa: ASYNC110 (the holder is another process)
            await asyncio.sleep(0.2)


asyncio.run(migrate(context.config.attributes.get("settings") or load_settings()))
