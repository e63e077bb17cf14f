"""What the links in mails are for: they verify an address or reset a password.

Asking for one enqueues a job (jobs.py), whoever asks: neither the answer nor the time it takes
tells who is registered.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.authentication import Authenticator, LoginOrigin, admit
from app.accounts.jobs import enqueue_password_notice
from app.accounts.models import User
from app.accounts.passwords import UNCHANGED, PasswordHasher
from app.accounts.schemas import PasswordReset
from app.accounts.tokens import hash_opaque_token
from app.database import Database
from app.errors import ForbiddenError, InvalidInputError
from app.security_events import SecurityEvent, record_event
from app.settings import Settings
from app.throttling.service import Attempt, ThrottlePolicy, login_policy, trust_address

# Each counts apart.
MailReason = Literal["sign-up", "verify-email", "reset-password"]

_SECONDS_PER_HOUR = 3600
# Many mail servers deliver ada+1@ to ada@, some a.da@ as well.
_SAME_MAILBOX = re.compile(r"\+.*|\.")


async def admit_request(
    database: Database, settings: Settings, reason: MailReason, email: str, origin: LoginOrigin
) -> None:
    """Bounds how many mails one mailbox gets; counts unknown ones alike."""
    local, _, domain = email.rpartition("@")
    mailbox = f"{_SAME_MAILBOX.sub('', local)}@{domain}"
    attempt = Attempt(reason, email, origin.address, counted_as=mailbox)
    await admit(database, settings, mail_policy(settings, reason), attempt)


def mail_policy(settings: Settings, reason: MailReason) -> ThrottlePolicy:
    # 5 at once, then waits that double. A stranger who goes on asking for resets cannot shut the
    # owner out: before half the life of one link is over, the next may be sent.
    is_reset = reason == "reset-password"
    return ThrottlePolicy(
        account_attempts=5,
        address_attempts=50,
        delay_seconds_max=settings.password_reset_seconds / 2 if is_reset else _SECONDS_PER_HOUR,
        forget_after=timedelta(days=1),
        known_for=timedelta(0),
    )


async def verify_email(session: AsyncSession, token: str) -> None:
    user = await repository.spend_email_token(session, hash_opaque_token(token), "verify-email")
    if user is None:
        raise _spent()
    user.email_verified_at = user.email_verified_at or datetime.now(UTC)
    record_event(SecurityEvent.EMAIL_VERIFIED, user.id)


async def reset_password(
    authenticator: Authenticator, origin: LoginOrigin, body: PasswordReset
) -> None:
    """Every session ends: whoever knew the old password is out."""
    database = authenticator.database
    token_hash = hash_opaque_token(body.token.get_secret_value())
    # Asked first, so that nobody makes us hash passwords with invented tokens.
    async with database.transaction() as session:
        owner = await repository.get_email_token_owner(session, token_hash, "reset-password")
    if owner is None:
        raise _spent()
    new_hash = await _hash_new(authenticator.hasher, owner, body.new_password.get_secret_value())
    async with database.transaction() as session:
        user = await repository.spend_email_token(session, token_hash, "reset-password")
        if user is None:
            raise _spent()
        user.password_hash = new_hash
        user.email_verified_at = user.email_verified_at or datetime.now(UTC)
        await repository.delete_sessions_of_user(session, user.id)
        await repository.delete_email_tokens(session, user.id, "reset-password")
        await enqueue_password_notice(session, authenticator.settings, user.email)
    record_event(SecurityEvent.PASSWORD_RESET, user.id)
    # Whoever reads the mailbox may log in from here, however many strangers guess elsewhere.
    policy = login_policy(authenticator.settings)
    await trust_address(database, policy, Attempt("login", user.email, origin.address))


async def _hash_new(hasher: PasswordHasher, owner: User, password: str) -> str:
    hasher.refuse_obvious(password, owner.email)
    is_old, _ = await hasher.verify(password, owner.password_hash)
    if is_old:
        raise InvalidInputError(UNCHANGED)
    return await hasher.hash(password)


def _spent() -> ForbiddenError:
    return ForbiddenError("The token is not valid, was used before or has expired.")
