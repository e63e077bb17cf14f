"""Links sent by email: they verify an address or reset a password.

Sending happens after the response, so that nobody can tell from the time it takes who is
registered. A crash in between loses the mail: the user asks for another one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.authentication import Authenticator, LoginOrigin, login_attempt
from app.accounts.passwords import UNCHANGED, PasswordHasher
from app.accounts.repository import TokenOwner
from app.accounts.schemas import PasswordReset
from app.accounts.tokens import hash_opaque_token, new_opaque_token
from app.database import Database
from app.errors import AppError, ForbiddenError, InvalidInputError
from app.mail import Mailer, MailError, NoMailer
from app.settings import Settings
from app.throttling.service import Attempt, ThrottlePolicy, admit, login_policy, trust_address

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Purpose = Literal["verify-email", "reset-password"]

# About 40 mails a day at most to a mailbox that somebody wants to flood, 5 of them at once.
_POLICY = ThrottlePolicy(
    account_attempts=5,
    address_attempts=50,
    delay_seconds_max=3600,
    forget_after=timedelta(days=1),
    known_for=timedelta(0),
)
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class EmailLinks:
    """What is needed to send links; made once per worker."""

    settings: Settings
    mailer: Mailer

    @property
    def is_mail_set_up(self) -> bool:
        return not isinstance(self.mailer, NoMailer)


async def admit_request(database: Database, email: str, origin: LoginOrigin) -> None:
    """Bounds how many mails one mailbox gets; counts unknown ones alike."""
    await admit(database, _POLICY, Attempt("email", email, origin.address))


async def send_verification(database: Database, links: EmailLinks, user_id: UUID, to: str) -> None:
    await _send(database, links, user_id, to, "verify-email")


async def send_password_reset(database: Database, links: EmailLinks, email: str) -> None:
    """To whoever is registered with it; nothing happens when nobody is."""
    try:
        user = await repository.get_credentials(database, email)
    except AppError as error:
        log.error("mail not sent", purpose="reset-password", reason=str(error.detail))
        return
    if user is not None:
        await _send(database, links, user.user_id, email, "reset-password")


async def verify_email(session: AsyncSession, token: str) -> None:
    user = await repository.spend_email_token(session, hash_opaque_token(token), "verify-email")
    if user is None:
        raise _spent()
    user.email_verified_at = user.email_verified_at or datetime.now(UTC)


async def reset_password(
    authenticator: Authenticator, origin: LoginOrigin, body: PasswordReset
) -> None:
    """Every session ends: whoever knew the old password is out."""
    database = authenticator.database
    token_hash = hash_opaque_token(body.token.get_secret_value())
    # Asked first, so that nobody makes us hash passwords with invented tokens.
    owner = await repository.get_email_token_owner(database, token_hash, "reset-password")
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
    # Whoever reads the mailbox may log in from here, however many strangers guess elsewhere.
    policy = login_policy(authenticator.settings)
    await trust_address(database, policy, login_attempt(user.email, origin))


async def _hash_new(hasher: PasswordHasher, owner: TokenOwner, password: str) -> str:
    hasher.refuse_obvious(password, owner.email)
    is_old, _ = await hasher.verify(password, owner.password_hash)
    if is_old:
        raise InvalidInputError(UNCHANGED)
    return await hasher.hash(password)


async def _send(
    database: Database, links: EmailLinks, user_id: UUID, to: str, purpose: Purpose
) -> None:
    token = new_opaque_token()
    lifetime = _lifetime(links.settings, purpose)
    expires_at = datetime.now(UTC) + lifetime
    # After the # : browsers send that part to no server, so it is in no log and no Referer.
    url = f"{str(links.settings.public_url).rstrip('/')}/{purpose}#token={token}"
    subject, text = _MESSAGES[purpose](url, _spoken(lifetime))
    try:
        async with database.transaction() as session:
            await repository.add_email_token(
                session, hash_opaque_token(token), user_id, purpose, expires_at
            )
        await links.mailer.send(to, subject, text)
    except (MailError, AppError) as error:
        # The response is out already: only the log can tell.
        log.error("mail not sent", purpose=purpose, user_id=str(user_id), reason=str(error))


def _lifetime(settings: Settings, purpose: Purpose) -> timedelta:
    if purpose == "verify-email":
        return timedelta(seconds=settings.email_verification_seconds)
    return timedelta(seconds=settings.password_reset_seconds)


def _verification_message(url: str, lifetime: str) -> tuple[str, str]:
    return "Verify your email address", (
        "Please open this link to show that this address is yours:\n\n"
        f"{url}\n\nIt works once and for {lifetime}."
        " If you did not sign up, you need not do anything.\n"
    )


def _reset_message(url: str, lifetime: str) -> tuple[str, str]:
    return "Reset your password", (
        "Somebody, probably you, wants a new password for your account."
        f" Please open this link to choose one:\n\n{url}\n\n"
        f"It works once and for {lifetime}."
        " If it was not you, you need not do anything: your password stays as it is.\n"
    )


_MESSAGES: Mapping[Purpose, Callable[[str, str], tuple[str, str]]] = {
    "verify-email": _verification_message,
    "reset-password": _reset_message,
}


def _spoken(lifetime: timedelta) -> str:
    seconds = int(lifetime.total_seconds())
    if seconds < 2 * _SECONDS_PER_HOUR:
        return f"{seconds // 60} minutes"
    return f"{seconds // _SECONDS_PER_HOUR} hours"


def _spent() -> ForbiddenError:
    return ForbiddenError("The token is not valid, was used before or has expired.")
