"""Tasks, and how a transaction enqueues them; app/jobs/process.py runs them: docs/jobs.md.

Workers do not import procrastinate, which would be 12 MiB of each: they call its function in SQL.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Concatenate, Generic, ParamSpec, cast

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.jobs import repository
from app.mail import Mailer
from app.settings import Settings

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Work:
    """What a task has at hand."""

    database: Database
    settings: Settings
    mailer: Mailer


@dataclass(frozen=True)
class Task(Generic[Arguments]):
    name: str
    run: Callable[Concatenate[Work, Arguments], Awaitable[None]]
    may_run_twice: bool
    # When it runs without being enqueued; its argument `timestamp` is when it was due.
    cron: str | None

    async def enqueue(
        self, session: AsyncSession, *_: Arguments.args, **arguments: Arguments.kwargs
    ) -> int:
        """The number of the job, which exists exactly if the transaction is committed."""
        return await repository.enqueue(session, self.name, arguments)

    async def enqueue_at(
        self, session: AsyncSession, at: datetime, *_: Arguments.args, **arguments: Arguments.kwargs
    ) -> int:
        return await repository.enqueue(session, self.name, arguments, at)


# Filled at import, as routers are.
TASKS: dict[str, Task[...]] = {}


def task(
    name: str, *, may_run_twice: bool = False, cron: str | None = None
) -> Callable[[Callable[Concatenate[Work, Arguments], Awaitable[None]]], Task[Arguments]]:
    """With `may_run_twice` it is tried again when it fails, and when its process has died."""

    def register(run: Callable[Concatenate[Work, Arguments], Awaitable[None]]) -> Task[Arguments]:
        made = Task(name, run, may_run_twice, cron)
        TASKS[name] = cast("Task[...]", made)
        return made

    return register
