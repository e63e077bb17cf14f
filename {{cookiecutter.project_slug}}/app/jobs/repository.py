"""SQL about the queue as a whole, on the tables of procrastinate."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database

_ENQUEUE = text("""
    SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[CAST(
        ROW('default', :task_name, 0, NULL, NULL, CAST(:arguments AS jsonb), :at)
        AS procrastinate_job_to_defer_v1
    )]))
""")
_COUNT = text("""
    SELECT
        count(*) FILTER (WHERE status = 'todo') AS todo,
        count(*) FILTER (WHERE status = 'doing') AS doing,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        coalesce(CAST(extract(epoch FROM now() - (
            SELECT coalesce(job.scheduled_at, min(event.at))
            FROM procrastinate_jobs AS job
            JOIN procrastinate_events AS event ON event.job_id = job.id
            WHERE job.status = 'todo' AND coalesce(job.scheduled_at, now()) <= now()
            GROUP BY job.id ORDER BY job.id LIMIT 1
        )) AS float8), 0) AS oldest_seconds
    FROM procrastinate_jobs
""")
# In one statement, so that two processes never rescue the same job twice.
_RESCUE = text("""
    UPDATE procrastinate_jobs SET
        status = CAST(CASE
            WHEN abort_requested THEN 'aborted'
            WHEN task_name = ANY(:task_names) AND attempts < :attempts_max THEN 'todo'
            ELSE 'failed' END AS procrastinate_job_status),
        attempts = attempts + 1,
        abort_requested = false,
        scheduled_at = NULL
    WHERE id IN (
        SELECT job.id
        FROM procrastinate_jobs AS job
        LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
        WHERE job.status = 'doing' AND (
            worker.id IS NULL OR worker.last_heartbeat < now() - CAST(:silent_for AS interval)
        )
        FOR UPDATE OF job SKIP LOCKED
    )
    RETURNING id, task_name, CAST(status AS text) AS status
""")
_DELETE_FINISHED = text("""
    WITH deleted AS (
        DELETE FROM procrastinate_jobs AS job
        WHERE status NOT IN ('todo', 'doing') AND NOT EXISTS (
            SELECT FROM procrastinate_events AS event
            WHERE event.job_id = job.id AND event.at > now() - CAST(:kept AS interval)
        )
        RETURNING id
    )
    SELECT count(*) FROM deleted
""")


async def enqueue(
    session: AsyncSession,
    task_name: str,
    arguments: Mapping[str, object],
    at: datetime | None = None,
) -> int:
    values = {"task_name": task_name, "arguments": json.dumps(arguments), "at": at}
    return int((await session.execute(_ENQUEUE, values)).scalar_one())


async def execute(
    session: AsyncSession, sql: str, values: Mapping[str, object]
) -> Sequence[RowMapping]:
    """A statement of procrastinate itself."""
    return (await session.execute(text(sql), values)).mappings().all()


async def count_jobs(database: Database) -> RowMapping:
    """By status, and for how many seconds the oldest of those that may run has been waiting."""
    async with database.transaction() as session:
        return (await session.execute(_COUNT)).mappings().one()


async def rescue_jobs(
    database: Database, silent_for: timedelta, task_names: Sequence[str], attempts_max: int
) -> Sequence[RowMapping]:
    """Those of processes that have ended without a word: back into the queue if they may run
    twice, else among the failed ones."""
    values = {"silent_for": silent_for, "task_names": task_names, "attempts_max": attempts_max}
    async with database.transaction() as session:
        return (await session.execute(_RESCUE, values)).mappings().all()


async def delete_finished(database: Database, kept: timedelta) -> int:
    async with database.transaction() as session:
        return int((await session.execute(_DELETE_FINISHED, {"kept": kept})).scalar_one())
