"""How sessions begin, go on and end. Hashing never happens while a connection is held."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository, roles
from app.accounts.models import Session
from app.accounts.passwords import PasswordHasher
from app.accounts.repository import AuthenticatedUser, Credentials, SessionRow
from app.accounts.schemas import TokenPair
from app.accounts.tokens import (
    TokenKeys,
    hash_opaque_token,
    issue_access_token,
    new_opaque_token,
)
from app.database import Database
from app.errors import ForbiddenError, NotFoundError, UnauthorizedError, UnavailableError
from app.throttling import service as throttling
from app.throttling.service import Attempt

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# A person with more has other troubles; the list stays short.
_LISTED_MAX = 100
CHANGED_MEANWHILE = "The account was changed at this moment."
# More than a login adds, so the tables shrink; few enough that nobody feels it.
_ROWS_PURGED_PER_LOGIN = 20


@dataclass(frozen=True)
class LoginOrigin:
    """Where a login comes from; shown in the list of sessions and used to slow down guessing."""

    address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class Login:
    """What somebody claims to be; without `scopes` they get all they may have."""

    email: str
    password: str
    origin: LoginOrigin = field(default_factory=LoginOrigin)
    scopes: tuple[str, ...] = ()

    @property
    def attempt(self) -> Attempt:
        return Attempt("login", self.email, self.origin.address)


async def authenticate(database: Database, hasher: PasswordHasher, login: Login) -> Credentials:
    """The user whose email and password these are. Whatever else lets people in uses it too."""
    hasher.refuse_when_busy()
    policy, attempt = hasher.guess_policy, login.attempt
    await throttling.admit(database, policy, attempt)
    credentials = await repository.get_credentials(database, login.email)
    known_hash = credentials.password_hash if credentials else None
    try:
        matches, new_hash = await hasher.verify(login.password, known_hash)
    except UnavailableError:
        await throttling.uncount_attempt(database, attempt)  # We were busy: that was no guess.
        raise
    if credentials is None or not matches:
        raise UnauthorizedError("The email or the password is wrong.")
    await throttling.record_success(database, policy, attempt)
    if not new_hash:
        return credentials
    async with database.transaction() as session:
        await repository.replace_password_hash(session, credentials, new_hash)
    return replace(credentials, password_hash=new_hash)


async def refuse_outdated(session: AsyncSession, credentials: Credentials) -> None:
    """A login that began before a change of the password must not end after it."""
    if not await repository.are_current(session, credentials):
        raise UnavailableError(CHANGED_MEANWHILE)


async def log_in(
    database: Database,
    hasher: PasswordHasher,
    keys: TokenKeys,
    login: Login,
) -> TokenPair:
    user = await authenticate(database, hasher, login)
    scope = user.role.grant(login.scopes or roles.SCOPES)
    if not scope:
        raise ForbiddenError("None of the scopes that are asked for can be granted.")
    row = Session(
        user_id=user.user_id,
        expires_at=datetime.now(UTC) + timedelta(seconds=keys.refresh_token_seconds),
        address=login.origin.address,
        user_agent=login.origin.user_agent,
        scope=scope,
    )
    refresh_token = new_opaque_token()
    async with database.transaction() as session:
        await refuse_outdated(session, user)
        await repository.add_session(session, row, hash_opaque_token(refresh_token))
    await purge(database, _ROWS_PURGED_PER_LOGIN)
    access_token = issue_access_token(keys, row.user_id, row.id, scope)
    # RFC 6749, 5.1: who gets something else than asked for must be told.
    is_as_asked = not login.scopes or set(login.scopes) == set(scope.split())
    return _token_pair(keys, access_token, refresh_token, None if is_as_asked else scope)


async def refresh(
    database: Database, keys: TokenKeys, spent_token: str, origin: LoginOrigin
) -> TokenPair:
    """A new pair for an unspent token; a token spent before ends its session, for it was stolen."""
    spent_hash, refresh_token = hash_opaque_token(spent_token), new_opaque_token()
    async with database.transaction() as session:
        await repository.lock_session_of_token(session, spent_hash)
        owner = await repository.spend_refresh_token(session, spent_hash)
        if owner:
            token_hash = hash_opaque_token(refresh_token)
            await repository.add_refresh_token(session, owner.session_id, token_hash)
            await repository.touch_session(
                session, owner.session_id, origin.address, origin.user_agent
            )
        else:
            await _end_session_if_stolen(session, keys, spent_hash)
    # Raised outside the block: the end of the session must be committed, not rolled back.
    if owner is None:
        raise UnauthorizedError("The refresh token is not valid.")
    scope = owner.role.grant(owner.scope.split())
    access_token = issue_access_token(keys, owner.user_id, owner.session_id, scope)
    return _token_pair(keys, access_token, refresh_token)


async def log_out(database: Database, refresh_token: str) -> None:
    async with database.transaction() as session:
        await repository.delete_session_of_token(session, hash_opaque_token(refresh_token))


async def log_out_everywhere(database: Database, user_id: UUID) -> None:
    async with database.transaction() as session:
        await repository.delete_sessions_of_user(session, user_id)


async def list_sessions(
    database: Database, current_user: AuthenticatedUser
) -> Sequence[SessionRow]:
    return await repository.list_sessions(database, current_user.id, _LISTED_MAX)


async def end_session(
    database: Database, current_user: AuthenticatedUser, session_id: UUID
) -> None:
    async with database.transaction() as session:
        is_ended = await repository.delete_session_of_user(session, current_user.id, session_id)
    if not is_ended:
        raise NotFoundError("There is no such session.")


async def purge(database: Database, row_count: int) -> int:
    """Deletes what has expired, at most so many rows of each table; how many they were."""
    return (
        await repository.delete_expired_sessions(database, row_count)
        + await repository.delete_expired_email_tokens(database, row_count)
        + await throttling.purge(database, row_count)
    )


async def _end_session_if_stolen(session: AsyncSession, keys: TokenKeys, token_hash: bytes) -> None:
    token = await repository.get_refresh_token(session, token_hash)
    if token is None or token.used_at is None:
        return
    grace = timedelta(seconds=keys.refresh_reuse_grace_seconds)
    if datetime.now(UTC) - token.used_at > grace:
        await repository.delete_session_of_token(session, token_hash)
        log.warning("refresh token used twice", session_id=str(token.session_id))


def _token_pair(
    keys: TokenKeys, access_token: str, refresh_token: str, scope: str | None = None
) -> TokenPair:
    return TokenPair(
        access_token=access_token,
        refresh_token=refresh_token,
        expires_in=keys.access_token_seconds,
        scope=scope,
    )
