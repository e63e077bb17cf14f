"""SQL of the admin app, the conditions of its lists included."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.accounts.models import Session, User
from app.admin.models import AuditEntry
from app.database import Model

Row = TypeVar("Row", bound=Model)
Rows: TypeAlias = Select[*tuple[object, ...]]

# Counting millions of rows for one line of text takes seconds.
ROWS_COUNTED_MAX = 100_000

SESSION_IS_ACTIVE = Session.expires_at > func.now()


class ServerFigures(NamedTuple):
    revision: str | None
    server_version: str
    connections: int
    connections_max: int
    workers: int


def count_rows(rows: Rows) -> Select[int]:
    """Stops early and does not sort."""
    return select(func.count()).select_from(rows.order_by(None).limit(ROWS_COUNTED_MAX).subquery())


async def count_tables(
    session: AsyncSession, tables: Sequence[tuple[type[Model], ColumnElement[bool]]]
) -> Sequence[int]:
    rows = [select(literal(1)).select_from(model).where(condition) for model, condition in tables]
    counts = [count_rows(cast("Rows", each)).scalar_subquery() for each in rows]
    return tuple((await session.execute(select(*counts))).one())


async def get_server_figures(session: AsyncSession, service_name: str) -> ServerFigures:
    # The engine names its connections after the service and the process.
    statement = text("""
        SELECT
            (SELECT version_num FROM alembic_version LIMIT 1),
            current_setting('server_version'),
            count(*),
            CAST(current_setting('max_connections') AS integer),
            count(DISTINCT application_name) FILTER (WHERE starts_with(application_name, :prefix))
        FROM pg_stat_activity WHERE datname = current_database()
    """)
    return ServerFigures(*(await session.execute(statement, {"prefix": f"{service_name}:"})).one())


async def list_entries(
    session: AsyncSession, row_count: int, of: tuple[type[Model], UUID] | None = None
) -> Sequence[AuditEntry]:
    """The newest first: of one row or of all."""
    statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(row_count)
    if of is not None:
        model, row_id = of
        same_table = AuditEntry.subject == model.__tablename__
        statement = statement.where(same_table, AuditEntry.subject_id == row_id)
    return (await session.scalars(statement)).all()


def only_columns(rows: Rows, columns: Sequence[ColumnElement[object]], row_count: int) -> Rows:
    """Plain values: objects of the ORM would cost ten times as much."""
    return cast("Rows", rows.with_only_columns(*columns).limit(row_count))


def email_of(owner_id: Column[UUID]) -> ColumnElement[object]:
    email = select(User.email).where(User.id == owner_id).correlate(owner_id.table)
    return cast("ColumnElement[object]", email.scalar_subquery())


async def list_rows(
    session: AsyncSession, model: type[Row], row_ids: Collection[UUID], *, lock: bool = False
) -> Sequence[Row]:
    # Always in the same order: two admins at once must not lock each other out.
    statement = select(model).where(_id(model).in_(row_ids)).order_by(_id(model))
    return (await session.scalars(statement.with_for_update() if lock else statement)).all()


async def count_dependents(
    session: AsyncSession, model: type[Model], row_ids: Sequence[UUID]
) -> Mapping[str, int]:
    """How many rows of which tables PostgreSQL deletes together with these."""
    own = cast("Table", model.__table__)
    dependents = list(_cascades(own, _id(model).in_(row_ids)))
    if not dependents:
        return {}
    statement = select(*(count_rows(rows).scalar_subquery() for _, rows in dependents))
    counts = (await session.execute(statement)).one()
    names = [name for name, _ in dependents]
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _cascades(own: Table, condition: ColumnElement[bool]) -> Iterator[tuple[str, Rows]]:
    for child in Model.metadata.sorted_tables:
        for key in child.foreign_keys:
            if key.column.table is own and child is not own and key.ondelete == "CASCADE":
                belongs = key.parent.in_(select(key.column).where(condition))
                yield child.name, cast("Rows", select(literal(1)).select_from(child).where(belongs))
                yield from _cascades(child, belongs)


def _id(model: type[Model]) -> InstrumentedAttribute[UUID]:
    return cast("InstrumentedAttribute[UUID]", model.id)  # type: ignore[attr-defined]


def of_user(rows: Rows, owner_id: Column[UUID], email: str) -> Rows:
    return rows.where(owner_id.in_(select(User.id).where(User.email == email)))


def of_actor_or_subject(entries: Rows, term: str) -> Rows:
    try:
        return entries.where(AuditEntry.subject_id == UUID(term))
    except ValueError:
        return entries.where(AuditEntry.actor_email == term)
