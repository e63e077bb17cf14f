"""The queue of jobs: procrastinate, on the sessions of this service; docs/jobs.md."""

import asyncio
import json
import logging
import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.jobs import repository
from app.mail import Mailer
from app.settings import Settings

# Its lines have the arguments of the jobs; app/jobs/process.py writes one without for each run.
logging.getLogger("procrastinate").setLevel(logging.WARNING)

# 5 s, 15 s, 45 s ... the last after about 3 hours; then the job has failed, and stays.
RETRIES_MAX = 8
FIRST_RETRY_SECONDS = 5
RETRY_FACTOR = 3

# %(name)s of psycopg is :name of SQLAlchemy, in brackets where a :: follows.
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True)
class Work:
    """What a job has at hand; `work_of` finds it."""

    database: Database
    settings: Settings
    mailer: Mailer


def work_of(context: JobContext) -> Work:
    return cast("Work", context.additional_context["work"])


class Backoff(BaseRetryStrategy):
    """For tasks that may run twice."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if job.attempts >= RETRIES_MAX:
            return None
        # Those that failed together do not come back together.
        seconds = FIRST_RETRY_SECONDS * RETRY_FACTOR**job.attempts * random.uniform(0.5, 1.5)  # noqa: S311
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


class SessionConnector(BaseAsyncConnector):
    """Runs procrastinate's statements in the session that a job is enqueued with, else in one of
    their own: no second pool, and every connection is what app/database.py makes it."""

    def __init__(self, database: Database | None = None) -> None:
        self._database = database
        # What a lost answer has done is not known: the job may be marked as running by nobody.
        self.has_failed = asyncio.Event()

    async def execute_query_async(self, query: str, **arguments: object) -> None:
        await self.execute_query_all_async(query, **arguments)

    async def execute_query_one_async(self, query: str, **arguments: object) -> dict[str, object]:
        return (await self.execute_query_all_async(query, **arguments))[0]

    async def execute_query_all_async(
        self, query: str, **arguments: object
    ) -> list[dict[str, object]]:
        if self._database is None:
            raise TypeError("Enqueue with a session: task.configure(connection=session).")
        try:
            async with self._database.transaction() as session:
                return await self.execute_query_all_async_with_connection(
                    session, query, **arguments
                )
        except Exception:
            self.has_failed.set()
            raise

    async def execute_query_all_async_with_connection(
        self, connection: AsyncSession, query: str, **arguments: object
    ) -> list[dict[str, object]]:
        sql = _PARAMETER.sub(r"(:\1)", query)
        values = {name: _for_driver(value) for name, value in arguments.items()}
        return [{**row} for row in await repository.execute(connection, sql, values)]


def _for_driver(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value)
    # Jobs to be enqueued: a list of tuples.
    return tuple(map(_for_driver, value)) if isinstance(value, (list, tuple)) else value


# Like a router: made at import, it knows the tasks and has no connection.
queue = App(connector=SessionConnector())
