"""SQL of the admin app, the conditions of its lists included."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.accounts.models import Session, User
from app.database import Model

Row = TypeVar("Row", bound=Model)
Rows = TypeVar("Rows", bound="Select[*tuple[object, ...]]")


async def get_row(session: AsyncSession, table: type[Row], row_id: UUID) -> Row | None:
    return await session.get(table, row_id, with_for_update=True)


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


async def delete_sessions(session: AsyncSession, user_id: UUID) -> Sequence[UUID]:
    statement = delete(Session).where(Session.user_id == user_id).returning(Session.id)
    return (await session.scalars(statement)).all()


async def list_emails(session: AsyncSession, user_ids: Sequence[UUID]) -> dict[UUID, str]:
    rows = await session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return {row.id: row.email for row in rows}


def of_user(rows: Rows, owner: InstrumentedAttribute[UUID], email: str) -> Rows:
    return rows.where(owner.in_(select(User.id).where(User.email == email)))
