"""SQL of the tokens that are sent by email."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.models import EmailToken, User
from app.database import Database

# Built once: building a statement for every call costs about 400 us.
_USER_ID = select(User.id).where(User.email == bindparam("email"), User.disabled_at.is_(None))
_EMAIL_TOKEN = select(EmailToken.user_id).where(
    EmailToken.token_hash == bindparam("token_hash"),
    EmailToken.purpose == bindparam("purpose"),
    EmailToken.expires_at > func.now(),
)
_EXPIRED = (
    select(EmailToken.token_hash)
    .where(EmailToken.expires_at < func.now())
    .limit(bindparam("row_count"))
    .with_for_update(skip_locked=True)
)
_DELETE_EXPIRED = (
    delete(EmailToken).where(EmailToken.token_hash.in_(_EXPIRED)).returning(EmailToken.token_hash)
)


async def get_user_id(database: Database, email: str) -> UUID | None:
    row = await database.read_one(_USER_ID, {"email": email})
    return row[0] if row else None


async def get_user_id_of_token(database: Database, token_hash: bytes, purpose: str) -> UUID | None:
    row = await database.read_one(_EMAIL_TOKEN, {"token_hash": token_hash, "purpose": purpose})
    return row[0] if row else None


async def add_token(
    session: AsyncSession, token_hash: bytes, user_id: UUID, purpose: str, expires_at: datetime
) -> None:
    session.add(
        EmailToken(token_hash=token_hash, user_id=user_id, purpose=purpose, expires_at=expires_at)
    )
    await session.flush()


async def spend_token(session: AsyncSession, token_hash: bytes, purpose: str) -> UUID | None:
    """The user it was sent to, once; a disabled user's is worth nothing."""
    statement = (
        delete(EmailToken)
        .where(
            EmailToken.token_hash == token_hash,
            EmailToken.purpose == purpose,
            EmailToken.expires_at > func.now(),
            User.id == EmailToken.user_id,
            User.disabled_at.is_(None),
        )
        .returning(EmailToken.user_id)
    )
    return await session.scalar(statement)


async def delete_tokens(session: AsyncSession, user_id: UUID, *purposes: str) -> None:
    await session.execute(
        delete(EmailToken).where(EmailToken.user_id == user_id, EmailToken.purpose.in_(purposes))
    )


async def delete_expired_tokens(database: Database, row_count: int) -> int:
    return len(await database.read_all(_DELETE_EXPIRED, {"row_count": row_count}))
