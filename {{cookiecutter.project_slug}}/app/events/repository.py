"""SQL of the events, and of what is told to the other workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Integer,
    Interval,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

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


# The tables: to the ORM, an INSERT with parameters is one of its own rows.
_event, _head = cast("Table", Event.__table__), cast("Table", EventHead.__table__)
_COUNT = bindparam("count", type_=BigInteger)
_next = (
    upsert(_head)
    .values(owner_id=bindparam("owner_id"), seq=_COUNT)
    .on_conflict_do_update(index_elements=[_head.c.owner_id], set_={"seq": _head.c.seq + _COUNT})
    .returning(_head.c.owner_id, _head.c.seq)
    .cte("next")
)
_new = func.unnest(bindparam("kinds", type_=ARRAY(Text)), bindparam("ids", type_=ARRAY(Uuid)))
_new_rows = _new.table_valued(
    column("kind", Text), column("id", Uuid), with_ordinality="place", name="new"
).render_derived()
_APPEND = insert(_event).from_select(
    ["owner_id", "seq", "kind", "subject_id"],
    select(
        _next.c.owner_id, _next.c.seq - _COUNT + _new_rows.c.place, *_new_rows.c[:2]
    ).select_from(_next.join(_new_rows, true())),
)
_HEAD = select(
    EventHead.epoch,
    EventHead.seq,
    select(func.coalesce(func.min(Event.seq), EventHead.seq + 1))
    .where(Event.owner_id == EventHead.owner_id)
    .scalar_subquery(),
).where(EventHead.owner_id == bindparam("owner_id"))

_wanted = func.unnest(
    bindparam("owner_ids", type_=ARRAY(Uuid)), bindparam("seqs", type_=ARRAY(BigInteger))
)
_wanted_rows = _wanted.table_valued(
    column("owner_id", Uuid), column("seq", BigInteger), name="wanted"
).render_derived()
_following = (
    select(Event.seq, Event.kind, Event.subject_id, Event.created_at)
    .where(Event.owner_id == _wanted_rows.c.owner_id, Event.seq > _wanted_rows.c.seq)
    .order_by(Event.seq)
    .limit(bindparam("row_count", type_=Integer))
    .lateral()
)
_FOLLOWING = (
    select(
        _wanted_rows.c.owner_id,
        EventHead.epoch,
        *_following.c,
    )
    .select_from(_wanted_rows)
    .join(EventHead, EventHead.owner_id == _wanted_rows.c.owner_id)
    .join(_following, true())
    .order_by(_wanted_rows.c.owner_id, _following.c.seq)
)
_KEY = tuple_(Event.owner_id, Event.seq)
_DELETE_OLD = (
    delete(Event)
    .where(
        _KEY.in_(
            select(Event.owner_id, Event.seq)
            .where(Event.created_at < func.now() - bindparam("kept", type_=Interval))
            .limit(bindparam("row_count"))
            .with_for_update(skip_locked=True)
        )
    )
    .returning(Event.seq)
)
_payloads = func.unnest(bindparam("payloads", type_=ARRAY(Text))).column_valued("payload")
_NOTIFY = select(func.pg_notify(bindparam("channel", type_=Text), _payloads, type_=Text))


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
