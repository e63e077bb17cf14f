"""SQL of the second factor."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.second_factor.models import RecoveryCode, SecondFactor


class Overview(NamedTuple):
    encrypted_secret: bytes
    created_at: datetime
    recovery_codes: int


_CODES_LEFT = (
    select(func.count())
    .select_from(RecoveryCode)
    .where(RecoveryCode.user_id == SecondFactor.user_id)
    .correlate(SecondFactor)
    .scalar_subquery()
)
_OVERVIEW = select(SecondFactor.encrypted_secret, SecondFactor.created_at, _CODES_LEFT).where(
    SecondFactor.user_id == bindparam("user_id")
)


async def find(database: Database, user_id: UUID) -> Overview | None:
    row = await database.read_one(_OVERVIEW, {"user_id": user_id})
    return Overview(*row) if row else None


async def add(session: AsyncSession, row: SecondFactor, code_hashes: Iterable[bytes]) -> bool:
    """Not when there is one already: of two at once one wins."""
    values = {
        "user_id": row.user_id,
        "encrypted_secret": row.encrypted_secret,
        "last_step": row.last_step,
    }
    statement = insert(SecondFactor).values(values).on_conflict_do_nothing()
    added = await session.scalar(statement.returning(SecondFactor.user_id)) is not None
    if added:
        _add_codes(session, row.user_id, code_hashes)
    return added


async def spend_step(session: AsyncSession, user_id: UUID, step: int) -> bool:
    """Of two logins with one code, the second waits for the row and finds the step taken."""
    statement = update(SecondFactor).where(
        SecondFactor.user_id == user_id, SecondFactor.last_step < step
    )
    spent = await session.scalar(statement.values(last_step=step).returning(SecondFactor.user_id))
    return spent is not None


async def spend_recovery_code(session: AsyncSession, user_id: UUID, code_hash: bytes) -> bool:
    statement = delete(RecoveryCode).where(
        RecoveryCode.user_id == user_id, RecoveryCode.code_hash == code_hash
    )
    return await session.scalar(statement.returning(RecoveryCode.user_id)) is not None


async def replace_recovery_codes(
    session: AsyncSession, user_id: UUID, code_hashes: Iterable[bytes]
) -> bool:
    # Locked: two at once would leave twenty codes.
    if await session.get(SecondFactor, user_id, with_for_update=True) is None:
        return False
    await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    _add_codes(session, user_id, code_hashes)
    return True


async def remove(session: AsyncSession, user_id: UUID) -> bool:
    """Together with the recovery codes."""
    statement = delete(SecondFactor).where(SecondFactor.user_id == user_id)
    return await session.scalar(statement.returning(SecondFactor.user_id)) is not None


def _add_codes(session: AsyncSession, user_id: UUID, code_hashes: Iterable[bytes]) -> None:
    session.add_all(RecoveryCode(user_id=user_id, code_hash=one) for one in code_hashes)
