"""How Alembic reaches the database: the service's own settings, one connection, one lock."""

import asyncio
import logging

from alembic import context
from sqlalchemy import Connection, func, pool, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app import main  # noqa: F401 (it imports every domain, and with it every table)
from app.database import Address, Model
from app.settings import Settings

log = logging.getLogger("alembic.runtime.migration")

# Any constant will do; the same for everybody who migrates this database.
ADVISORY_LOCK = 4_207_718_113
# Replicas that start together wait this long for the one that works.
LOCK_WAIT_SECONDS = 300
# A statement that waits for a table's lock makes everybody queue behind it, readers too: give up
# before the service's requests do (15 s), let them pass, and try again. Default: wait for ever.
TABLE_LOCK_MILLISECONDS = 2000
TABLE_LOCK_TRIES = 10
TABLE_LOCK_PAUSE_SECONDS = 3
LOCK_NOT_AVAILABLE = "55P03"
# Columns that only the code of the last release still uses: its successor drops them.
# Until then no model has them, and autogenerate is not to notice.
LEAVING_COLUMNS = {("app_user", "is_admin")}


def run_migrations(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Model.metadata,
        compare_server_default=True,
        include_name=lambda name, _, parents: (
            (parents.get("table_name"), name) not in LEAVING_COLUMNS
        ),
        # They are procrastinate's, and so are their migrations.
        include_object=lambda item, name, type_, _reflected, _other: (
            not (str(getattr(item, "table", item)).startswith("procrastinate_"))
        ),
        # Locks are held for one revision, and a second try begins where the first one stopped.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate(settings: Settings) -> None:
    # No statement timeout here: building an index may take an hour.
    address = Address.of(settings.database_owner_url or settings.database_url)
    engine = create_async_engine(
        address.url,
        poolclass=pool.NullPool,
        connect_args={
            **address.tls,
            "server_settings": {
                "application_name": "migrate",
                "lock_timeout": str(TABLE_LOCK_MILLISECONDS),
            },
        },
    )
    async with engine.connect() as guard, engine.connect() as connection:
        await wait_for_lock(await guard.execution_options(isolation_level="AUTOCOMMIT"))
        await run_until_tables_are_free(connection)
    await engine.dispose()


async def run_until_tables_are_free(connection: AsyncConnection) -> None:
    for tries_left in reversed(range(TABLE_LOCK_TRIES)):
        try:
            await connection.run_sync(run_migrations)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE or not tries_left:
                raise
            log.warning("A table is in use; %d more tries.", tries_left)
        await connection.rollback()
        await asyncio.sleep(TABLE_LOCK_PAUSE_SECONDS)


async def wait_for_lock(guard: AsyncConnection) -> None:
    # Asked for again and again: a statement that waits holds a snapshot, and
    # CREATE INDEX CONCURRENTLY of the one that works would wait for that snapshot for ever.
    # The lock ends with the connection, so a killed migration leaves none behind.
    take = select(func.pg_try_advisory_lock(ADVISORY_LOCK))
    async with asyncio.timeout(LOCK_WAIT_SECONDS):
        while not await guard.scalar(take):  # noqa: ASYNC110 (the holder is another process)
            await asyncio.sleep(0.2)


def write_sql() -> None:
    """For `alembic upgrade head --sql`: what a person or a linter reads before it is run."""
    context.configure(dialect_name="postgresql", transaction_per_migration=True, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    asyncio.run(migrate(context.config.attributes.get("settings") or Settings.load()))
