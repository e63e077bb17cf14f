"""Enqueueing in a transaction, retries, and the tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from procrastinate.jobs import Job
from procrastinate.schema import SchemaManager
from sqlalchemy import func, select

from app.accounts.jobs import send_password_reset
from app.database import Database
from app.jobs import models, repository
from app.jobs.process import RETRIES_MAX, Backoff
from app.settings import Settings
from tests.job_runner import run_jobs

ROOT = Path(__file__).parents[2]
NOBODY = "nobody@example.com"


async def count(database: Database) -> tuple[int]:
    row = await database.read_one(select(func.count()).select_from(models.Job))
    assert row
    return row


async def test_job_exists_exactly_if_its_transaction_is_committed(
    committing_database: Database,
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with committing_database.transaction() as session:
            await send_password_reset.enqueue(session, email=NOBODY)
            raise ZeroDivisionError
    assert await count(committing_database) == (0,)
    async with committing_database.transaction() as session:
        await send_password_reset.enqueue(session, email=NOBODY)
    assert await count(committing_database) == (1,)


async def test_job_waits_until_its_time_has_come(database: Database, settings: Settings) -> None:
    now = datetime.now(UTC)
    async with database.transaction() as session:
        await send_password_reset.enqueue_at(session, now + timedelta(hours=1), email=NOBODY)
    assert await run_jobs(database, settings) == []
    async with database.transaction() as session:
        await send_password_reset.enqueue_at(session, now - timedelta(hours=1), email=NOBODY)
    assert await run_jobs(database, settings) == ["accounts.reset-password"]


def test_retries_come_later_each_time_and_not_together() -> None:
    def wait_seconds(attempts: int) -> float | None:
        job = Job(queue="", lock=None, queueing_lock=None, task_name="", attempts=attempts)
        decision = Backoff().get_retry_decision(exception=ValueError(), job=job)
        at = decision and decision.retry_at
        return (at - datetime.now(UTC)).total_seconds() if at else None

    first = {round(wait_seconds(0) or 0, 3) for _ in range(100)}
    assert 2.4 < min(first) < max(first) < 7.6
    assert len(first) > 10
    assert (wait_seconds(RETRIES_MAX - 1) or 0) > 3600
    assert wait_seconds(RETRIES_MAX) is None


async def test_finished_jobs_are_deleted_when_they_are_old(committing_database: Database) -> None:
    async with committing_database.transaction() as session:
        for _ in range(2):
            await send_password_reset.enqueue(session, email=NOBODY)
        [cancelled, _] = (await session.scalars(select(models.Job).order_by(models.Job.id))).all()
        cancelled.status = "cancelled"
    assert await repository.delete_finished(committing_database, timedelta(hours=1)) == 0
    assert await repository.delete_finished(committing_database, timedelta(0)) == 1
    assert await count(committing_database) == (1,)


def test_migrations_have_run_all_files_of_procrastinate() -> None:
    files = sorted(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    revisions = [path.read_text() for path in (ROOT / "migrations/versions").glob("*.py")]
    assert any(f'"{files[-1]}"' in text for text in revisions), (
        "procrastinate has a newer schema: add a revision that runs its files, as 0009 does."
    )
