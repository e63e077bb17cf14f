"""Deletes what has expired, every ten minutes, and when `manage purge` is called."""

from datetime import timedelta

from app.accounts import sessions
from app.database import Database
from app.events import repository as events
from app.jobs import repository as jobs
from app.jobs.queue import Work, task
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


@task("purge", may_run_twice=True, cron="*/10 * * * *")
async def purge_expired(work: Work, timestamp: int) -> None:
    await purge(work.database, work.settings)
