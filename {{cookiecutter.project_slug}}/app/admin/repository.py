"""SQL of the admin app, the conditions of its lists included."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    Integer,
    Select,
    Subquery,
    Text,
    bindparam,
    column,
    func,
    literal,
    select,
    table,
)
from sqlalchemy import cast as cast_type
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.accounts.models import Session, User
from app.admin.models import AuditEntry
from app.database import Database, Model
from app.items.models import Item

Row = TypeVar("Row", bound=Model)
Rows = TypeVar("Rows", bound="Select[*tuple[object, ...]]")

# Counting millions of rows for one line of text takes seconds.
ROWS_COUNTED_MAX = 100_000


@dataclass(frozen=True)
class Figures:
    users: int
    items: int
    sessions: int
    revision: str | None
    server_version: str
    connections: int
    connections_max: int
    workers: int


class EntryRow(NamedTuple):
    id: UUID
    created_at: datetime
    actor_email: str
    action: str
    subject: str


def _count(rows: Select[*tuple[object, ...]]) -> Select[int]:
    return select(func.count()).select_from(rows.subquery())


def _rows_of(model: type[Model]) -> Select[*tuple[object, ...]]:
    return select(literal(1)).select_from(model).limit(ROWS_COUNTED_MAX)


_revision = table("alembic_version", column("version_num", Text))
_activity = table("pg_stat_activity", column("datname", Text), column("application_name", Text))
_HERE = _activity.c.datname == func.current_database()
_FIGURES = select(
    _count(_rows_of(User)).scalar_subquery(),
    _count(_rows_of(Item)).scalar_subquery(),
    _count(_rows_of(Session).where(Session.expires_at > func.now())).scalar_subquery(),
    select(_revision.c.version_num).limit(1).scalar_subquery(),
    func.current_setting("server_version", type_=Text),
    select(func.count()).select_from(_activity).where(_HERE).scalar_subquery(),
    cast_type(func.current_setting("max_connections"), Integer),
    # The engine names its connections after the service and the process.
    select(func.count(_activity.c.application_name.distinct()))
    .where(_HERE, func.starts_with(_activity.c.application_name, bindparam("prefix", type_=Text)))
    .scalar_subquery(),
)
_NEWEST_ENTRIES = (
    select(
        AuditEntry.id,
        AuditEntry.created_at,
        AuditEntry.actor_email,
        AuditEntry.action,
        AuditEntry.subject,
    )
    .order_by(AuditEntry.id.desc())
    .limit(8)
)


async def get_figures(database: Database, service_name: str) -> Figures:
    prefix = {"prefix": f"{service_name}:"}
    row = await database.read_one(_FIGURES, prefix)
    return Figures(*cast("tuple[int, int, int, str | None, str, int, int, int]", row))


async def list_newest_entries(database: Database) -> Sequence[EntryRow]:
    return [EntryRow(*row) for row in await database.read_all(_NEWEST_ENTRIES)]


def count_at_most(count: Select[*tuple[object, ...]], row_count: int) -> Select[int]:
    """A count as sqladmin makes it, which stops early and does not sort."""
    (counted,) = cast("Sequence[Subquery]", count.get_final_froms())
    rows = cast("Select[*tuple[object, ...]]", counted.element).order_by(None)
    return _count(rows.limit(row_count))


async def get_row(session: AsyncSession, model: type[Row], row_id: UUID) -> Row | None:
    return await session.get(model, row_id, with_for_update=True)


async def list_users_for_update(session: AsyncSession, user_ids: Sequence[UUID]) -> Sequence[User]:
    # Always in the same order: two admins at once must not lock each other out.
    statement = select(User).where(User.id.in_(user_ids)).order_by(User.id).with_for_update()
    return (await session.scalars(statement)).all()


async def add_row(session: AsyncSession, row: Row) -> Row:
    session.add(row)
    await session.flush()
    return row


async def delete_row(session: AsyncSession, row: Model) -> None:
    await session.delete(row)
    await session.flush()


async def list_emails(session: AsyncSession, user_ids: Sequence[UUID]) -> dict[UUID, str]:
    rows = await session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return {row.id: row.email for row in rows}


def of_user(rows: Rows, owner: InstrumentedAttribute[UUID], email: str) -> Rows:
    return rows.where(owner.in_(select(User.id).where(User.email == email)))


def of_actor_or_subject(entries: Rows, term: str) -> Rows:
    try:
        return entries.where(AuditEntry.subject_id == UUID(term))
    except ValueError:
        return entries.where(AuditEntry.actor_email == term)
