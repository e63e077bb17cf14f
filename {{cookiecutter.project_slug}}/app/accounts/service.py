"""What users do with their accounts. Hashing never happens while a connection is held."""

from uuid import UUID

from sqlalchemy.exc import IntegrityError

from app.accounts import repository
from app.accounts.models import User
from app.accounts.passwords import PasswordHasher
from app.accounts.repository import AuthenticatedUser
from app.accounts.roles import Role
from app.accounts.schemas import PasswordChange, UserCreate, UserUpdate
from app.accounts.sessions import CHANGED_MEANWHILE, LoginOrigin
from app.database import Database
from app.errors import ConflictError, ForbiddenError, UnauthorizedError, UnavailableError
from app.throttling.service import Attempt, admit, record_success


async def register_user(
    database: Database, hasher: PasswordHasher, body: UserCreate, *, role: Role = Role.MEMBER
) -> User:
    password_hash = await hasher.hash(body.password.get_secret_value())
    user = User(
        email=body.email,
        full_name=body.full_name,
        password_hash=password_hash,
        role=role,
    )
    try:
        async with database.transaction() as session:
            await repository.add_user(session, user)
    except IntegrityError as error:
        raise ConflictError("A user with this email exists already.") from error
    return user


async def update_user(database: Database, user_id: UUID, body: UserUpdate) -> User:
    async with database.transaction() as session:
        user = await repository.get_user(session, user_id)
        if user is None:
            raise UnauthorizedError("The user does not exist any more.")
        if "full_name" in body.model_fields_set:
            user.full_name = body.full_name
    return user


async def change_password(
    database: Database,
    hasher: PasswordHasher,
    current_user: AuthenticatedUser,
    origin: LoginOrigin,
    body: PasswordChange,
) -> None:
    # Whoever stole an access token must not find the password out here.
    attempt = Attempt("change-password", current_user.email, origin.address)
    await admit(database, hasher.guess_policy, attempt)
    credentials = await repository.get_credentials(database, current_user.email)
    known_hash = credentials.password_hash if credentials else None
    matches, _ = await hasher.verify(body.current_password.get_secret_value(), known_hash)
    if credentials is None or not matches:
        raise ForbiddenError("The current password is wrong.")
    await record_success(database, hasher.guess_policy, attempt)
    new_hash = await hasher.hash(body.new_password.get_secret_value())
    async with database.transaction() as session:
        if not await repository.replace_password_hash(session, credentials, new_hash):
            raise UnavailableError(CHANGED_MEANWHILE)
        await repository.delete_sessions_of_user(
            session, current_user.id, except_session_id=current_user.session_id
        )
