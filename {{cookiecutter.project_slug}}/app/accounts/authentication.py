"""Checks emails and passwords, as often as the throttling admits it."""

from dataclasses import dataclass, field, replace
from typing import Literal

from app.accounts import repository
from app.accounts.passwords import PasswordHasher
from app.accounts.repository import Credentials
from app.database import Database
from app.errors import TooManyRequestsError, UnavailableError
from app.security_events import SecurityEvent, hash_email, record_event
from app.settings import Settings
from app.throttling import service as throttling
from app.throttling.service import Attempt, ThrottlePolicy


@dataclass(frozen=True)
class LoginOrigin:
    """Where a login comes from; shown in the list of sessions and used to slow down guessing."""

    address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class Login:
    """Who somebody claims to be; without `scopes` they get all that their role may have."""

    email: str
    password: str
    origin: LoginOrigin = field(default_factory=LoginOrigin)
    scopes: tuple[str, ...] = ()
    # Each counts apart: what strangers do to the API shuts nobody out of the admin app.
    door: Literal["login", "admin-login"] = "login"


@dataclass(frozen=True)
class Authenticator:
    """Made once per worker; whatever lets people in uses it: the API and the admin app."""

    database: Database
    hasher: PasswordHasher
    settings: Settings

    async def authenticate(self, login: Login) -> Credentials | None:
        """None when the email or the password is wrong; both take the same time."""
        attempt = Attempt(login.door, login.email, login.origin.address)
        return await self.check_password(attempt, login.password)

    async def check_password(self, attempt: Attempt, password: str) -> Credentials | None:
        """The account of the attempt is the email of the user."""
        self.hasher.refuse_when_busy()
        policy = throttling.login_policy(self.settings)
        await admit(self.database, self.settings, policy, attempt)
        user = await repository.get_credentials(self.database, attempt.account)
        try:
            matches, new_hash = await self.hasher.verify(
                password, user.password_hash if user else None
            )
        except UnavailableError:
            # The queue was full: nobody has guessed.
            await throttling.uncount_attempt(self.database, attempt)
            raise
        if user is None or not matches:
            claimed = {} if user else {"email_hash": hash_email(self.settings, attempt.account)}
            user_id = user.user_id if user else None
            record_event(SecurityEvent.LOGIN_FAILED, user_id, door=attempt.purpose, **claimed)
            return None
        await throttling.record_success(self.database, policy, attempt)
        if new_hash is None:
            return user
        async with self.database.transaction() as session:
            await repository.replace_password_hash(session, user, new_hash)
        return replace(user, password_hash=new_hash)


async def admit(
    database: Database, settings: Settings, policy: ThrottlePolicy, attempt: Attempt
) -> None:
    """Counts the attempt, or tells the log and raises TooManyRequestsError."""
    try:
        await throttling.admit(database, policy, attempt)
    except TooManyRequestsError:
        hashed = hash_email(settings, attempt.account)
        record_event(SecurityEvent.ATTEMPT_THROTTLED, door=attempt.purpose, email_hash=hashed)
        raise
