"""What all workers hear of once it is committed; `app/events` sends it around with NOTIFY."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

# Followed by the id of a user: there are new events of theirs, or what they may do has changed.
EVENTS, ACCOUNT = "events", "account"
# The keys of `session.info`.
COLLECTOR, _PENDING = "announcements", "pending_announcements"


class Announcements:
    """Collects them in one worker, each once. In a commit, NOTIFY would wait for all others."""

    def __init__(self) -> None:
        self._collected: set[str] = set()
        self._arrived = asyncio.Event()

    def new_sessionmaker(self, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        return async_sessionmaker(engine, expire_on_commit=False, info={COLLECTOR: self})

    def add(self, announcements: Iterable[str]) -> None:
        self._collected.update(announcements)
        self._arrived.set()

    async def wait(self) -> None:
        await self._arrived.wait()

    def take(self) -> list[str]:
        taken = list(self._collected)
        self._collected.clear()
        self._arrived.clear()
        return taken


def announce(session: Session, kind: str, user_id: UUID) -> None:
    """Nobody hears of it when the transaction is rolled back."""
    session.info.setdefault(_PENDING, set()).add(announcement(kind, user_id))


def announcement(kind: str, user_id: UUID) -> str:
    return f"{kind}:{user_id}"


@event.listens_for(Session, "after_commit")
def _publish(session: Session) -> None:
    if pending := session.info.pop(_PENDING, None):
        collector: Announcements = session.info[COLLECTOR]
        collector.add(pending)
