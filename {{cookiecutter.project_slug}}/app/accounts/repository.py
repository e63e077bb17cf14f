"""SQL of the accounts: reads take the database, writes the session of the request."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, any_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import Delete, ReturningDelete

from app.accounts.models import EmailToken, RefreshToken, Session, User
from app.accounts.roles import Role
from app.announcements import ACCOUNT, announce
from app.database import Database

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The signed-in user together with the session that the token names."""

    session_id: UUID
    id: UUID
    email: str
    full_name: str | None
    created_at: datetime
    email_verified_at: datetime | None
    role: Role


@dataclass(frozen=True, slots=True)
class Credentials:
    user_id: UUID
    email: str
    password_hash: str
    role: Role


class SessionRow(NamedTuple):
    id: UUID
    created_at: datetime
    last_used_at: datetime
    address: str | None
    user_agent: str | None


class EndedSession(NamedTuple):
    session_id: UUID
    user_id: UUID


class SpentToken(NamedTuple):
    session_id: UUID
    user_id: UUID
    scope: str
    role: Role
    started_at: datetime


# Built once: building one for every call costs about 400 us.
_SESSION_IS_GOOD = (Session.expires_at > func.now()) & User.disabled_at.is_(None)
_CURRENT_ROLES = (
    select(Session.id, User.role)
    .join(User, User.id == Session.user_id)
    .where(Session.id == any_(bindparam("session_ids", type_=ARRAY(Uuid))), _SESSION_IS_GOOD)
)
_AUTHENTICATED_USER = (
    select(
        Session.id,
        User.id,
        User.email,
        User.full_name,
        User.created_at,
        User.email_verified_at,
        User.role,
    )
    .join(User, User.id == Session.user_id)
    .where(
        Session.id == bindparam("session_id"),
        User.id == bindparam("user_id"),
        _SESSION_IS_GOOD,
    )
)
_CREDENTIALS = select(User.id, User.email, User.password_hash, User.role).where(
    User.email == bindparam("email"), User.disabled_at.is_(None)
)
_USER_ID = select(User.id).where(User.email == bindparam("email"))
_SESSIONS = (
    select(
        Session.id,
        Session.created_at,
        Session.last_used_at,
        Session.address,
        Session.user_agent,
    )
    .where(Session.user_id == bindparam("user_id"), Session.expires_at > func.now())
    .order_by(Session.last_used_at.desc())
    .limit(bindparam("row_count"))
)


def _delete_expired(
    key: InstrumentedAttribute[Key], expires_at: InstrumentedAttribute[datetime]
) -> ReturningDelete[Key]:
    expired = select(key).where(expires_at < func.now()).limit(bindparam("row_count"))
    expired = expired.with_for_update(skip_locked=True)
    return delete(key.class_).where(key.in_(expired)).returning(key)


_DELETE_EXPIRED_SESSIONS = _delete_expired(Session.id, Session.expires_at)
_DELETE_EXPIRED_EMAIL_TOKENS = _delete_expired(EmailToken.token_hash, EmailToken.expires_at)


async def get_current_user(
    database: Database, session_id: UUID, user_id: UUID
) -> AuthenticatedUser | None:
    row = await database.read_one(
        _AUTHENTICATED_USER, {"session_id": session_id, "user_id": user_id}
    )
    # The driver gives a role as its text.
    return AuthenticatedUser(*row[:-1], Role(row[-1])) if row else None


async def list_current_roles(
    database: Database, session_ids: Collection[UUID]
) -> Mapping[UUID, Role]:
    """Of those sessions that have not ended."""
    rows = await database.read_all(_CURRENT_ROLES, {"session_ids": [*session_ids]})
    return {session_id: Role(role) for session_id, role in rows}


async def get_credentials(database: Database, email: str) -> Credentials | None:
    row = await database.read_one(_CREDENTIALS, {"email": email})
    return Credentials(*row[:-1], Role(row[-1])) if row else None


async def find_user_id(database: Database, email: str) -> UUID | None:
    """Disabled or not."""
    row = await database.read_one(_USER_ID, {"email": email})
    return row[0] if row else None


async def replace_password_hash(session: AsyncSession, known: Credentials, new_hash: str) -> bool:
    """Not when it was replaced since it was read: of two at once one wins."""
    statement = update(User).where(
        User.id == known.user_id, User.password_hash == known.password_hash
    )
    changed = await session.scalar(statement.values(password_hash=new_hash).returning(User.id))
    return changed is not None


async def are_current(session: AsyncSession, known: Credentials) -> bool:
    """Until the commit nobody can change the password or disable the user."""
    statement = select(User.id).where(
        User.id == known.user_id,
        User.password_hash == known.password_hash,
        User.disabled_at.is_(None),
    )
    return await session.scalar(statement.with_for_update(read=True)) is not None


async def list_sessions(database: Database, user_id: UUID, row_count: int) -> Sequence[SessionRow]:
    rows = await database.read_all(_SESSIONS, {"user_id": user_id, "row_count": row_count})
    return [SessionRow(*row) for row in rows]


async def touch_session(
    session: AsyncSession, session_id: UUID, values: Mapping[str, object]
) -> None:
    statement = update(Session).where(Session.id == session_id)
    await session.execute(statement.values(last_used_at=func.now(), **values))


async def count_refreshes(session: AsyncSession, session_id: UUID, period: timedelta) -> int:
    statement = select(func.count()).select_from(RefreshToken)
    statement = statement.where(
        RefreshToken.session_id == session_id, RefreshToken.used_at > func.now() - period
    )
    return await session.scalar(statement) or 0


async def delete_spent_tokens(session: AsyncSession, session_id: UUID, kept: timedelta) -> None:
    statement = delete(RefreshToken).where(RefreshToken.session_id == session_id)
    await session.execute(statement.where(RefreshToken.used_at < func.now() - kept))


async def lock_session_of_token(session: AsyncSession, token_hash: bytes) -> None:
    """Before the token itself: whoever ends the session locks them in this order."""
    owner = select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash)
    statement = select(Session.id).where(Session.id == owner.scalar_subquery())
    await session.execute(statement.with_for_update())


async def spend_refresh_token(session: AsyncSession, token_hash: bytes) -> SpentToken | None:
    """Whose an unspent token is, which is spent now; of two refreshes at once one wins."""
    statement = (
        update(RefreshToken)
        .where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.used_at.is_(None),
            Session.id == RefreshToken.session_id,
            Session.expires_at > func.now(),
            User.id == Session.user_id,
            User.disabled_at.is_(None),
        )
        .values(used_at=func.now())
        .returning(Session.id, User.id, Session.scope, User.role, Session.created_at)
    )
    row = (await session.execute(statement)).one_or_none()
    return SpentToken(*row) if row else None


async def delete_session_of_stolen_token(
    session: AsyncSession, token_hash: bytes, grace_seconds: float, user_agent: str | None
) -> EndedSession | None:
    """When the token was spent longer ago than two refreshes of one client would be apart, or by
    another program."""
    used_before = func.clock_timestamp() - timedelta(seconds=grace_seconds)
    statement = delete(Session).where(
        RefreshToken.token_hash == token_hash,
        Session.id == RefreshToken.session_id,
        or_(
            RefreshToken.used_at < used_before,
            # Of the refresh that has spent it.
            RefreshToken.used_at.is_not(None) & Session.user_agent.is_distinct_from(user_agent),
        ),
    )
    return await _ended(session, statement)


async def _ended(session: AsyncSession, statement: Delete) -> EndedSession | None:
    row = (await session.execute(statement.returning(Session.id, Session.user_id))).one_or_none()
    if row is None:
        return None
    announce(session.sync_session, ACCOUNT, row.user_id)
    return EndedSession(*row)


async def delete_session_of_user(session: AsyncSession, user_id: UUID, session_id: UUID) -> bool:
    statement = delete(Session).where(Session.id == session_id, Session.user_id == user_id)
    return await _ended(session, statement) is not None


async def delete_sessions_of_user(
    session: AsyncSession, user_id: UUID, except_session_id: UUID | None = None
) -> Sequence[UUID]:
    ended = select(Session.id).where(Session.user_id == user_id)
    if except_session_id is not None:
        ended = ended.where(Session.id != except_session_id)
    # Always in the same order: two at once must not wait for each other.
    ended = ended.order_by(Session.id).with_for_update()
    statement = delete(Session).where(Session.id.in_(ended)).returning(Session.id)
    announce(session.sync_session, ACCOUNT, user_id)
    return (await session.scalars(statement)).all()


async def delete_session_of_token(session: AsyncSession, token_hash: bytes) -> EndedSession | None:
    owner = select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash)
    return await _ended(session, delete(Session).where(Session.id == owner.scalar_subquery()))


def _email_token_owner(token_hash: bytes, purpose: str) -> Select[User]:
    """Whom an unspent token was sent to; a disabled user's is worth nothing."""
    return (
        select(User)
        .join(EmailToken, EmailToken.user_id == User.id)
        .where(
            EmailToken.token_hash == token_hash,
            EmailToken.purpose == purpose,
            EmailToken.expires_at > func.now(),
            User.disabled_at.is_(None),
        )
    )


async def get_email_token_owner(
    session: AsyncSession, token_hash: bytes, purpose: str
) -> User | None:
    return await session.scalar(_email_token_owner(token_hash, purpose))


async def spend_email_token(session: AsyncSession, token_hash: bytes, purpose: str) -> User | None:
    # The user first: two links of one user, spent at once, must not wait for each other.
    owner = _email_token_owner(token_hash, purpose).with_for_update(of=User)
    user = await session.scalar(owner)
    if user is None:
        return None
    token = delete(EmailToken).where(EmailToken.token_hash == token_hash)
    # Of two requests with one link, the second waits for the user and finds no token.
    is_spent = await session.scalar(token.returning(EmailToken.user_id)) is not None
    return user if is_spent else None


async def delete_email_tokens(session: AsyncSession, user_id: UUID, *purposes: str) -> None:
    await session.execute(
        delete(EmailToken).where(EmailToken.user_id == user_id, EmailToken.purpose.in_(purposes))
    )


async def delete_expired(database: Database, row_count: int) -> int:
    """At most so many rows of each table; how many they were."""
    sessions = await database.read_all(_DELETE_EXPIRED_SESSIONS, {"row_count": row_count})
    tokens = await database.read_all(_DELETE_EXPIRED_EMAIL_TOKENS, {"row_count": row_count})
    return len(sessions) + len(tokens)
