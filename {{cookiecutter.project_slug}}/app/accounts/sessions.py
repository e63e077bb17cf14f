"""How sessions begin, go on and end. No connection is held while a password is hashed."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository, roles
from app.accounts.authentication import Authenticator, Login, LoginOrigin
from app.accounts.models import RefreshToken, Session
from app.accounts.repository import (
    AuthenticatedUser,
    Credentials,
    EndedSession,
    SpentToken,
)
from app.accounts.schemas import SessionOut, TokenPair
from app.accounts.tokens import (
    TokenKeys,
    hash_opaque_token,
    issue_access_token,
    new_opaque_token,
    read_access_token,
)
from app.database import Database
from app.errors import (
    NotFoundError,
    OAuthError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from app.security_events import SecurityEvent, record_event
from app.settings import Settings
from app.throttling import service as throttling

# A person with more has other troubles; the list stays short.
_LISTED_MAX = 100
CHANGED_MEANWHILE = "The account was changed at this moment."
# An access token lives for 30 s at least (ACCESS_TOKEN_SECONDS): nobody needs more.
_REFRESHES_PER_HOUR_MAX = 120
# Who comes back with a spent token after that gets a 401, and the session goes on.
_SPENT_TOKENS_KEPT = timedelta(days=7)


async def refuse_outdated(session: AsyncSession, credentials: Credentials) -> None:
    """A login that began before a change of the password must not end after it."""
    if not await repository.are_current(session, credentials):
        raise UnavailableError(CHANGED_MEANWHILE)


async def log_in(authenticator: Authenticator, keys: TokenKeys, login: Login) -> TokenPair:
    user = await authenticator.authenticate(login)
    if user is None:
        raise UnauthorizedError("The email or the password is wrong.")
    scope = user.role.grant(login.scopes or roles.SCOPES)
    if not scope:
        raise _no_scope()
    row = Session(
        user_id=user.user_id,
        expires_at=_expires_at(authenticator.settings, datetime.now(UTC)),
        address=login.origin.address,
        user_agent=login.origin.user_agent,
        scope=scope,
    )
    refresh_token = new_opaque_token()
    database = authenticator.database
    async with database.transaction() as session:
        await refuse_outdated(session, user)
        session.add(row)
        await session.flush()
        session.add(RefreshToken(session_id=row.id, token_hash=hash_opaque_token(refresh_token)))
    record_event(
        SecurityEvent.LOGIN_SUCCEEDED, user.user_id, door=login.door, session_id=str(row.id)
    )
    access_token = issue_access_token(keys, row.user_id, row.id, scope)
    return _token_pair(keys, access_token, refresh_token, _unless_as_asked(scope, login.scopes))


async def refresh(
    database: Database,
    keys: TokenKeys,
    origin: LoginOrigin,
    spent_token: str,
    scopes: Sequence[str] = (),
) -> TokenPair:
    """A new pair for an unspent token; a token spent before ends its session, for it was stolen.

    With `scopes`, this access token may do less than the session.
    """
    spent_hash, refresh_token = hash_opaque_token(spent_token), new_opaque_token()
    async with database.transaction() as session:
        await repository.lock_session_of_token(session, spent_hash)
        owner = await repository.spend_refresh_token(session, spent_hash)
        if owner:
            scope = _narrowed(owner, scopes)
            await _refuse_too_many(session, owner)
            await repository.delete_spent_tokens(session, owner.session_id, _SPENT_TOKENS_KEPT)
            token_hash = hash_opaque_token(refresh_token)
            session.add(RefreshToken(session_id=owner.session_id, token_hash=token_hash))
            values = {**asdict(origin), "expires_at": _expires_at(keys.settings, owner.started_at)}
            await repository.touch_session(session, owner.session_id, values)
        else:
            ended = await repository.delete_session_of_stolen_token(
                session, spent_hash, keys.settings.refresh_reuse_grace_seconds, origin.user_agent
            )
            if ended is not None:
                _record_reuse(ended)
    # Raised outside the block: the end of the session must be committed, not rolled back.
    if owner is None:
        raise UnauthorizedError("The refresh token is not valid.")
    access_token = issue_access_token(keys, owner.user_id, owner.session_id, scope)
    return _token_pair(keys, access_token, refresh_token, _unless_as_asked(scope, scopes))


def _narrowed(owner: SpentToken, scopes: Sequence[str]) -> str:
    granted = owner.scope.split()
    scope = owner.role.grant(set(scopes).intersection(granted) if scopes else granted)
    if scopes and not scope:
        raise _no_scope()
    return scope


def _no_scope() -> OAuthError:
    return OAuthError("invalid_scope", "None of the scopes that are asked for can be granted.")


def _unless_as_asked(scope: str, asked_for: Sequence[str]) -> str | None:
    """RFC 6749, 5.1: who gets something else than asked for must be told."""
    return None if not asked_for or set(asked_for) == set(scope.split()) else scope


def _expires_at(settings: Settings, started_at: datetime) -> datetime:
    ends_at = started_at + timedelta(seconds=settings.refresh_token_seconds)
    if settings.refresh_idle_seconds is None:
        return ends_at
    return min(ends_at, datetime.now(UTC) + timedelta(seconds=settings.refresh_idle_seconds))


async def _refuse_too_many(session: AsyncSession, owner: SpentToken) -> None:
    count = await repository.count_refreshes(session, owner.session_id, timedelta(hours=1))
    if count > _REFRESHES_PER_HOUR_MAX:
        record_event(SecurityEvent.ATTEMPT_THROTTLED, owner.user_id, door="refresh")
        raise TooManyRequestsError("Too many refreshes of this session; wait.", 60)


async def log_out(session: AsyncSession, refresh_token: str) -> None:
    ended = await repository.delete_session_of_token(session, hash_opaque_token(refresh_token))
    if ended is not None:
        _record_end(ended.user_id, [ended.session_id])


async def revoke(session: AsyncSession, keys: TokenKeys, token: str) -> None:
    """Ends the session of a token of either kind; one that nobody knows is revoked already."""
    try:
        claims = read_access_token(keys, token)
    except UnauthorizedError:
        await log_out(session, token)
        return
    if await repository.delete_session_of_user(session, claims.sub, claims.sid):
        _record_end(claims.sub, [claims.sid])


async def log_out_everywhere(session: AsyncSession, current_user: AuthenticatedUser) -> None:
    ended_ids = await repository.delete_sessions_of_user(session, current_user.id)
    _record_end(current_user.id, ended_ids)


async def list_sessions(
    database: Database, current_user: AuthenticatedUser
) -> Sequence[SessionOut]:
    rows = await repository.list_sessions(database, current_user.id, _LISTED_MAX)
    return [SessionOut(**row._asdict(), current=row.id == current_user.session_id) for row in rows]


async def end_session(
    session: AsyncSession, current_user: AuthenticatedUser, session_id: UUID
) -> None:
    if not await repository.delete_session_of_user(session, current_user.id, session_id):
        raise NotFoundError("There is no such session.")
    _record_end(current_user.id, [session_id])


def _record_reuse(ended: EndedSession) -> None:
    session_id = str(ended.session_id)
    record_event(SecurityEvent.REFRESH_TOKEN_REUSED, ended.user_id, session_id=session_id)


def _record_end(user_id: UUID, session_ids: Sequence[UUID]) -> None:
    ended = [str(session_id) for session_id in session_ids]
    record_event(SecurityEvent.SESSIONS_ENDED, user_id, session_ids=ended)


async def purge(database: Database, row_count: int) -> int:
    """Deletes what has expired, at most so many rows of each table; how many they were."""
    expired = await repository.delete_expired(database, row_count)
    return expired + await throttling.purge(database, row_count)


def _token_pair(
    keys: TokenKeys, access_token: str, refresh_token: str, scope: str | None = None
) -> TokenPair:
    return TokenPair(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_in=keys.settings.access_token_seconds,
        scope=scope,
    )
