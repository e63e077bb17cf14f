"""What users do with their accounts. No connection is held while a password is hashed."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import jobs, repository
from app.accounts.authentication import Authenticator, LoginOrigin
from app.accounts.models import User
from app.accounts.passwords import UNCHANGED, PasswordHasher
from app.accounts.repository import AuthenticatedUser
from app.accounts.roles import Role
from app.accounts.schemas import PasswordChange, UserCreate, UserOut, UserUpdate
from app.accounts.sessions import CHANGED_MEANWHILE
from app.database import Database
from app.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    UnauthorizedError,
    UnavailableError,
)
from app.mail import is_set_up
from app.security_events import SecurityEvent, record_event
from app.throttling.service import Attempt


async def register_user(
    database: Database,
    hasher: PasswordHasher,
    body: UserCreate,
    *,
    role: Role = Role.MEMBER,
    then: Callable[[AsyncSession, User], Awaitable[None]] | None = None,
) -> UserOut:
    """What is to happen `then` happens in the same transaction, or not at all."""
    password = body.password.get_secret_value()
    hasher.refuse_obvious(password, body.email)
    password_hash = await hasher.hash(password)
    user = User(**body.model_dump(exclude={"password"}), password_hash=password_hash, role=role)
    try:
        async with database.transaction() as session:
            session.add(user)
            await session.flush()
            await session.refresh(user)
            if then:
                await then(session, user)
    except IntegrityError as error:
        raise ConflictError("A user with this email exists already.") from error
    return UserOut.model_validate(user)


async def sign_up(authenticator: Authenticator, body: UserCreate) -> UserOut:
    async def verify(session: AsyncSession, user: User) -> None:
        # Without a mail server nothing is sent but what somebody asks for.
        if is_set_up(authenticator.settings):
            await jobs.send_verification.enqueue(session, user_id=str(user.id))

    user = await register_user(authenticator.database, authenticator.hasher, body, then=verify)
    record_event(SecurityEvent.SIGNED_UP, user.id)
    return user


async def update_user(session: AsyncSession, user_id: UUID, body: UserUpdate) -> UserOut:
    user = await session.get(User, user_id, with_for_update=True)
    if user is None:
        raise UnauthorizedError("The user does not exist any more.")
    if "full_name" in body.model_fields_set:
        user.full_name = body.full_name
    return UserOut.model_validate(user)


async def change_password(
    authenticator: Authenticator,
    current_user: AuthenticatedUser,
    origin: LoginOrigin,
    body: PasswordChange,
) -> None:
    # Throttled as well: whoever stole an access token must not find the password out here.
    attempt = Attempt("change-password", current_user.email, origin.address)
    password = body.current_password.get_secret_value()
    new_password = body.new_password.get_secret_value()
    authenticator.hasher.refuse_obvious(new_password, current_user.email)
    credentials = await authenticator.check_password(attempt, password)
    if credentials is None:
        raise ForbiddenError("The current password is wrong.")
    if new_password == password:
        raise InvalidInputError(UNCHANGED)
    new_hash = await authenticator.hasher.hash(new_password)
    async with authenticator.database.transaction() as session:
        if not await repository.replace_password_hash(session, credentials, new_hash):
            raise UnavailableError(CHANGED_MEANWHILE)
        await repository.delete_email_tokens(session, current_user.id, "reset-password")
        await repository.delete_sessions_of_user(
            session, current_user.id, except_session_id=current_user.session_id
        )
        settings, email = authenticator.settings, current_user.email
        await jobs.enqueue_password_notice(session, settings, email)
    record_event(SecurityEvent.PASSWORD_CHANGED, current_user.id)
