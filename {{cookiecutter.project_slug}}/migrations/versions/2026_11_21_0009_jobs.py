"""the queue of the jobs

Revision: 0009, follows 0008, made 2026-11-21 23:30:00+00:00

The tables of procrastinate 3.10, by the migrations in its package. When a newer one brings another
file, tests/jobs/test_queue.py fails: add a revision like this one that runs it.
"""

from pathlib import Path
from typing import cast

import asyncpg
from alembic import context, op
from procrastinate.schema import SchemaManager
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NEWEST = "03.04.00_50_post_add_retry_failed_job_procedure.sql"


def upgrade() -> None:
    # A value of an enum can be used once it is committed: each file is a transaction of its own.
    with op.get_context().autocommit_block():
        # What is there of a try that was cut off.
        run(DROP)
        for file in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
            if file.name <= NEWEST:
                run(file.read_text("utf-8"))
        run(DROP_NOTIFY)


def downgrade() -> None:
    run(DROP)


def run(statements: str) -> None:
    """Many at once, which no prepared statement takes."""
    if context.is_offline_mode():
        op.execute(statements.replace(":", r"\:"))
        return
    connection = cast("AsyncAdapt_dbapi_connection", op.get_bind().connection.dbapi_connection)

    async def execute(driver: "asyncpg.Connection[asyncpg.Record]") -> None:
        await driver.execute(statements)

    connection.run_async(execute)


# NOTIFY in a transaction makes its commit wait for all others (docs/events.md); processes ask.
DROP_NOTIFY = """
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
DROP TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 ON procrastinate_jobs;
"""
DROP = """
DROP TABLE IF EXISTS procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs,
    procrastinate_workers CASCADE;
DO $$
DECLARE found text;
BEGIN
    FOR found IN SELECT CAST(oid AS regprocedure) FROM pg_proc
        WHERE pronamespace = CAST('public' AS regnamespace)
        AND starts_with(proname, 'procrastinate_')
    LOOP EXECUTE 'DROP FUNCTION ' || found || ' CASCADE'; END LOOP;
END $$;
DROP TYPE IF EXISTS procrastinate_job_status, procrastinate_job_event_type,
    procrastinate_job_to_defer_v1 CASCADE;
"""
