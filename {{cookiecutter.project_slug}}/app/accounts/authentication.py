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
from app.throttling.service import Attempt


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
    """Whatever lets people in uses it: the API and the admin app."""

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
        try:
            await throttling.admit(self.database, policy, attempt)
        except TooManyRequestsError:
            self._record(SecurityEvent.ATTEMPT_THROTTLED, attempt)
            raise
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
            self._record(SecurityEvent.LOGIN_FAILED, attempt, user)
            return None
        await throttling.record_success(self.database, policy, attempt)
        return await self._replace_hash(user, new_hash) if new_hash else user

    def _record(
        self, event: SecurityEvent, attempt: Attempt, user: Credentials | None = None
    ) -> None:
        details = {} if user else {"email_hash": hash_email(self.settings, attempt.account)}
        record_event(event, user.user_id if user else None, door=attempt.purpose, **details)

    async def _replace_hash(self, user: Credentials, new_hash: str) -> Credentials:
        async with self.database.transaction() as session:
            await repository.replace_password_hash(session, user, new_hash)
        return replace(user, password_hash=new_hash)
