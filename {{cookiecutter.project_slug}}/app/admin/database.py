"""How sqladmin reaches PostgreSQL: through the request's own `Database`, like everybody else."""

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import cast

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database import Database

# sqladmin opens sessions without saying for which request; the middleware says it here.
request_database: ContextVar[Database] = ContextVar("request_database")


class _RequestSessions:
    """What sqladmin uses of an `async_sessionmaker`.

    Its sessions wait in the same fair queue as those of the API, and nothing needs to be bound
    when the engine is made.
    """

    class_ = AsyncSession

    def configure(self, **_options: object) -> None:
        """sqladmin sets here what `Database` has decided already."""

    def __call__(self, **_options: object) -> AbstractAsyncContextManager[AsyncSession]:
        return request_database.get().transaction()


def session_maker() -> async_sessionmaker[AsyncSession]:
    return cast("async_sessionmaker[AsyncSession]", _RequestSessions())
