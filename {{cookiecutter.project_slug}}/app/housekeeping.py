"""Deletes what has expired, every ten minutes, and when `manage purge` is called."""

from datetime import timedelta

from procrastinate import JobContext

from app.accounts import sessions
from app.database import Database
from app.events import repository as events
from app.jobs import repository as jobs
from app.jobs.queue import queue, work_of
from app.settings import Settings

# More would hold its locks for too long.
_ROWS_PER_STATEMENT = 1000


async def purge(database: Database, settings: Settings) -> int:
    """How many rows there were."""
    total = await jobs.delete_finished(database, timedelta(seconds=settings.jobs_kept_seconds))
    kept = timedelta(seconds=settings.events_kept_seconds)
    while deleted := await events.delete_old(database, kept, _ROWS_PER_STATEMENT):
        total += deleted
    while deleted := await sessions.purge(database, _ROWS_PER_STATEMENT):
        total += deleted
    return total


@queue.periodic(cron="*/10 * * * *")
@queue.task(name="purge", pass_context=True)
async def purge_expired(context: JobContext, timestamp: int) -> None:
    work = work_of(context)
    await purge(work.database, work.settings)
