"""What users do with their accounts. Hashing never happens while a connection is held."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from app.accounts import repository
from app.accounts.models import RefreshToken, User
from app.accounts.passwords import Passwords
from app.accounts.repository import Caller
from app.accounts.schemas import PasswordChange, TokenPair, UserCreate, UserUpdate
from app.accounts.tokens import (
    TokenKeys,
    hash_refresh_token,
    issue_access_token,
    new_refresh_token,
)
from app.database import Database
from app.errors import ConflictError, ForbiddenError, UnauthorizedError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


async def register_user(
    database: Database, passwords: Passwords, body: UserCreate, *, is_admin: bool = False
) -> User:
    password_hash = await passwords.hash(body.password.get_secret_value())
    user = User(
        email=body.email,
        full_name=body.full_name,
        password_hash=password_hash,
        is_admin=is_admin,
    )
    try:
        async with database.transaction() as session:
            await repository.add_user(session, user)
    except IntegrityError as error:
        raise ConflictError("A user with this email exists already.") from error
    return user


async def log_in(
    database: Database,
    passwords: Passwords,
    keys: TokenKeys,
    *,
    email: str,
    password: str,
) -> TokenPair:
    credentials = await repository.get_credentials(database, email)
    known_hash = credentials.password_hash if credentials else None
    matches, new_hash = await passwords.verify(password, known_hash)
    if credentials is None or not matches:
        raise UnauthorizedError("The email or the password is wrong.")
    refresh_token = new_refresh_token()
    expires_at = datetime.now(UTC) + timedelta(seconds=keys.refresh_token_seconds)
    async with database.transaction() as session:
        if new_hash:
            await repository.set_password_hash(session, credentials.user_id, new_hash)
        session_id = await repository.add_session(
            session, credentials.user_id, expires_at, hash_refresh_token(refresh_token)
        )
    return _token_pair(keys, credentials.user_id, session_id, refresh_token)


async def refresh(database: Database, keys: TokenKeys, spent_token: str) -> TokenPair:
    """A new pair for an unspent token; a token spent before ends its session, for it was stolen."""
    spent_hash, refresh_token = hash_refresh_token(spent_token), new_refresh_token()
    async with database.transaction() as session:
        owner = await repository.spend_refresh_token(session, spent_hash)
        if owner:
            await repository.add_refresh_token(session, owner[0], hash_refresh_token(refresh_token))
        else:
            reused = await repository.get_refresh_token(session, spent_hash)
            if reused and _is_theft(reused, keys):
                await repository.delete_session(session, reused.session_id)
                log.warning("refresh token used twice", session_id=str(reused.session_id))
    # Raised outside the block: the end of the session must be committed, not rolled back.
    if owner is None:
        raise UnauthorizedError("The refresh token is not valid.")
    return _token_pair(keys, owner[1], owner[0], refresh_token)


async def log_out(database: Database, refresh_token: str) -> None:
    async with database.transaction() as session:
        await repository.delete_session_of_token(session, hash_refresh_token(refresh_token))


async def log_out_everywhere(database: Database, user_id: UUID) -> None:
    async with database.transaction() as session:
        await repository.delete_sessions_of_user(session, user_id)


async def update_user(database: Database, user_id: UUID, body: UserUpdate) -> User:
    async with database.transaction() as session:
        user = await repository.get_user(session, user_id)
        if user is None:
            raise UnauthorizedError("The user does not exist any more.")
        if "full_name" in body.model_fields_set:
            user.full_name = body.full_name
    return user


async def change_password(
    database: Database, passwords: Passwords, caller: Caller, body: PasswordChange
) -> None:
    credentials = await repository.get_credentials(database, caller.email)
    known_hash = credentials.password_hash if credentials else None
    matches, _ = await passwords.verify(body.current_password.get_secret_value(), known_hash)
    if not matches:
        raise ForbiddenError("The current password is wrong.")
    new_hash = await passwords.hash(body.new_password.get_secret_value())
    async with database.transaction() as session:
        await repository.set_password_hash(session, caller.id, new_hash)
        await repository.delete_sessions_of_user(
            session, caller.id, except_session_id=caller.session_id
        )


def _is_theft(token: RefreshToken, keys: TokenKeys) -> bool:
    if token.used_at is None:
        return False
    grace = timedelta(seconds=keys.refresh_reuse_grace_seconds)
    return datetime.now(UTC) - token.used_at > grace


def _token_pair(keys: TokenKeys, user_id: UUID, session_id: UUID, refresh_token: str) -> TokenPair:
    return TokenPair(
        access_token=issue_access_token(keys, user_id, session_id),
        refresh_token=refresh_token,
        expires_in=keys.access_token_seconds,
    )
