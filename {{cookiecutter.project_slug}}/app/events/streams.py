"""One client's stream: what it has missed from the table, then what the hub hands on."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from app.database import Database
from app.errors import AppError, GoneError
from app.events import repository
from app.events.repository import EventRow, Head
from app.websockets import CLOSE_CODES

# What is read of the table at once.
PAGE_ROWS = 100
# Events that wait for one client; who has more has stopped reading, and resumes from the table.
QUEUE_ROWS_MAX = 500
# Eight digits of a UUID, a hyphen, and the number of the last event.
_EPOCH_DIGITS = 8


class EventOut(BaseModel):
    """What has happened; read the row itself to see what it is like now."""

    type: Literal["event"] = "event"
    id: str
    seq: int
    kind: str
    subject_id: UUID
    created_at: datetime


@dataclass(frozen=True)
class End:
    """Why the service ends a stream: a code of RFC 6455, or 4000 and a status of HTTP."""

    code: int
    reason: str

    @classmethod
    def because_of(cls, error: HTTPException) -> Self:
        return cls(CLOSE_CODES + error.status_code, str(error.detail))


LEAVING = End(1012, "The service restarts: connect again and resume.")
SESSION_ENDED = End(4401, "The session has ended.")
TOKEN_EXPIRED = End(4401, "The access token has expired.")
TOO_SLOW = End(4408, "This client reads too slowly: connect again and resume.")
PRUNED = End(4410, "The events that follow are not kept any more.")


@dataclass(frozen=True)
class Follower:
    """Whose events are followed, and until when the access token is good."""

    user_id: UUID
    session_id: UUID
    expires_at: int


@dataclass(eq=False)
class Stream:
    database: Database
    follower: Follower
    head: Head
    # The number of the last event that the client has.
    position: int
    # From here on the hub hands events on; up to it they are read from the table.
    live_after: int
    end: End | None = None
    _rows: deque[EventRow] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return event_id(self.head.epoch, self.position)

    def offer(self, rows: Sequence[EventRow]) -> None:
        if self.position < self.live_after:
            # They will be read from the table, like those before them.
            self.live_after = rows[-1].seq
            return
        self._rows.extend(rows)
        if len(self._rows) > QUEUE_ROWS_MAX:
            self.finish(TOO_SLOW)
        self._changed.set()

    def finish(self, end: End) -> None:
        """The first reason is told."""
        self.end = self.end or end
        self._rows.clear()
        self._changed.set()

    def renew(self, follower: Follower) -> None:
        self.follower = follower
        self._changed.set()

    async def next_events(self, within_seconds: float) -> Sequence[EventOut]:
        """In order, each once; none when nothing happens for so long, or when it has an end."""
        if self.follower.expires_at <= time.time():
            self.finish(TOKEN_EXPIRED)
        if self.end is not None:
            return []
        if self.position < self.live_after:
            rows = await self._read_missed()
        else:
            await self._wait(within_seconds)
            rows = [row for row in self._rows if row.seq > self.position]
            self._rows.clear()
        if self.end is not None or not rows:
            return []
        if rows[0].seq != self.position + 1:
            # Never silently: the client is to know that it has missed some.
            self.finish(PRUNED)
            return []
        self.position = rows[-1].seq
        return [event_out(row) for row in rows]

    async def _read_missed(self) -> Sequence[EventRow]:
        try:
            after = {self.follower.user_id: self.position}
            rows = await repository.list_events(self.database, after, PAGE_ROWS)
        except AppError as error:
            self.finish(End.because_of(error))
            return []
        if not rows:
            self.finish(PRUNED)
        return rows

    async def _wait(self, within_seconds: float) -> None:
        left_seconds = self.follower.expires_at - time.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(within_seconds, left_seconds)):
                await self._changed.wait()
        self._changed.clear()


def event_id(epoch: UUID, seq: int) -> str:
    return f"{epoch.hex[:_EPOCH_DIGITS]}-{seq}"


def event_out(row: EventRow) -> EventOut:
    return EventOut(
        id=event_id(row.epoch, row.seq),
        seq=row.seq,
        kind=row.kind,
        subject_id=row.subject_id,
        created_at=row.created_at,
    )


def read_position(head: Head, last_event_id: str | None) -> int:
    """The number to go on from: without an id the newest one, so that only what is new comes."""
    if last_event_id is None:
        return head.seq
    epoch, _, digits = last_event_id.partition("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < len(str(2**63))):
        raise GoneError("The last event id is none of this service.")
    position = int(digits)
    # Whoever has seen nothing yet may have asked before there was an epoch.
    if position and epoch != head.epoch.hex[:_EPOCH_DIGITS]:
        raise GoneError("The event log has begun anew: read everything again.")
    if not head.first_seq - 1 <= position <= head.seq:
        raise GoneError("The events after this id are not kept any more: read everything again.")
    return position
