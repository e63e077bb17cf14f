"""A database whose work is undone after the test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from app.announcements import COLLECTOR
from app.database import Database


class RollbackDatabase(Database):
    """Everything on one connection, in one transaction that is never committed."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection) -> None:
        super().__init__(engine, slots=5, wait_seconds=3)
        self.connection = connection

    async def _fetch(
        self, sql: str, arguments: Sequence[object], *, may_retry: bool = False
    ) -> Sequence[asyncpg.Record]:
        driver = (await self.connection.get_raw_connection()).driver_connection
        return await cast("asyncpg.Connection[asyncpg.Record]", driver).fetch(sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        session = AsyncSession(
            self.connection,
            join_transaction_mode="create_savepoint",
            expire_on_commit=False,
            info={COLLECTOR: self.announcements},
        )
        # What PostgreSQL refuses is told as by the real one.
        async with self._slot(), session, session.begin():
            yield session
