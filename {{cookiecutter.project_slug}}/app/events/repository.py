"""SQL of the events, and of what is told to the other workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from sqlalchemy import CTE, Select, Table, insert, literal, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database import Database
from app.events.models import Event, EventHead


class EventRow(NamedTuple):
    owner_id: UUID
    epoch: UUID
    seq: int
    kind: str
    subject_id: UUID
    created_at: datetime


class Head(NamedTuple):
    """Where an owner's events end, and the first one that is still kept."""

    epoch: UUID
    seq: int
    first_seq: int


_event, _head = cast("Table", Event.__table__), cast("Table", EventHead.__table__)

_APPEND = text("""
    WITH head AS (
        INSERT INTO event_head AS head (owner_id, seq) VALUES (:owner_id, :count)
        ON CONFLICT (owner_id) DO UPDATE SET seq = head.seq + excluded.seq
        RETURNING owner_id, seq
    )
    INSERT INTO event (owner_id, seq, kind, subject_id)
    SELECT owner_id, seq - :count + place, kind, id
    FROM head, unnest(CAST(:kinds AS text[]), CAST(:ids AS uuid[]))
        WITH ORDINALITY AS new (kind, id, place)
""")
_HEAD = cast(
    "TypedReturnsRows[UUID, int, int]",
    text("""
        SELECT epoch, seq, coalesce(
            (SELECT min(event.seq) FROM event WHERE event.owner_id = head.owner_id), seq + 1
        )
        FROM event_head AS head WHERE owner_id = :owner_id
    """),
)
_FOLLOWING = cast(
    "TypedReturnsRows[UUID, UUID, int, str, UUID, datetime]",
    text("""
        SELECT wanted.owner_id, head.epoch, new.seq, new.kind, new.subject_id, new.created_at
        FROM unnest(CAST(:owner_ids AS uuid[]), CAST(:seqs AS bigint[])) AS wanted (owner_id, seq)
        JOIN event_head AS head ON head.owner_id = wanted.owner_id
        CROSS JOIN LATERAL (
            SELECT * FROM event
            WHERE event.owner_id = wanted.owner_id AND event.seq > wanted.seq
            ORDER BY event.seq LIMIT :row_count
        ) AS new
        ORDER BY wanted.owner_id, new.seq
    """),
)
_DELETE_OLD = cast(
    "TypedReturnsRows[int]",
    text("""
        DELETE FROM event WHERE (owner_id, seq) IN (
            SELECT owner_id, seq FROM event WHERE created_at < now() - CAST(:kept AS interval)
            LIMIT :row_count FOR UPDATE SKIP LOCKED
        )
        RETURNING seq
    """),
)
_NOTIFY = cast(
    "TypedReturnsRows[str]",
    text("SELECT pg_notify(:channel, payload) FROM unnest(CAST(:payloads AS text[])) AS payload"),
)


def with_event(changed: CTE, kind: str) -> Select[*tuple[object, ...]]:
    """The change of one row, which returns `id` and `owner_id`, and its event in one statement."""
    head = upsert(_head).from_select(
        ["owner_id", "seq"], select(changed.c.owner_id, literal(1)), include_defaults=False
    )
    head = head.on_conflict_do_update(
        index_elements=[_head.c.owner_id], set_={"seq": _head.c.seq + 1}
    )
    numbered = head.returning(_head.c.owner_id, _head.c.seq).cte("numbered")
    event = insert(_event).from_select(
        ["owner_id", "seq", "kind", "subject_id"],
        select(numbered.c.owner_id, numbered.c.seq, literal(kind), changed.c.id).join(
            changed, changed.c.owner_id == numbered.c.owner_id
        ),
    )
    return select(changed).add_cte(event.cte("recorded"))


def add_events(session: Session, owner_id: UUID, events: Sequence[tuple[str, UUID]]) -> None:
    """Called last in a transaction: other writers of the same owner wait from here on."""
    kinds, ids = zip(*events, strict=True)
    values = {"owner_id": owner_id, "count": len(events), "kinds": [*kinds], "ids": [*ids]}
    session.execute(_APPEND, values)


async def get_head(database: Database, owner_id: UUID) -> Head:
    row = await database.read_one(_HEAD, {"owner_id": owner_id})
    return Head(*row) if row else Head(UUID(int=0), 0, 1)


async def list_events(
    database: Database, after: Mapping[UUID, int], row_count: int
) -> Sequence[EventRow]:
    """What follows the given number of each owner, at most so many for each, in order."""
    values = {"owner_ids": [*after], "seqs": [*after.values()], "row_count": row_count}
    return [EventRow(*row) for row in await database.read_all(_FOLLOWING, values)]


async def delete_old(database: Database, kept: timedelta, row_count: int) -> int:
    return len(await database.read_all(_DELETE_OLD, {"kept": kept, "row_count": row_count}))


async def notify(database: Database, channel: str, payloads: Sequence[str]) -> None:
    await database.read_all(_NOTIFY, {"channel": channel, "payloads": payloads})
