"""Links sent by email: they verify an address or reset a password.

Sending happens after the response, so that nobody can tell from the time it takes who is
registered. A crash in between loses the mail: the user asks for another one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.passwords import PasswordHasher
from app.accounts.sessions import Login, LoginOrigin
from app.accounts.tokens import hash_opaque_token, new_opaque_token
from app.database import Database
from app.errors import AppError, ForbiddenError
from app.mail import Mailer, MailError, NoMailer
from app.settings import Settings
from app.throttling.service import Attempt, ThrottlePolicy, admit, trust_address

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

    mailer: Mailer
    # False: nobody has set a mail server, so nothing is sent without being asked for.
    is_mail_set_up: bool
    public_url: str
    verification: timedelta
    reset: timedelta


def build_email_links(settings: Settings, mailer: Mailer) -> EmailLinks:
    return EmailLinks(
        mailer,
        not isinstance(mailer, NoMailer),
        str(settings.public_url).rstrip("/"),
        timedelta(seconds=settings.email_verification_seconds),
        timedelta(seconds=settings.password_reset_seconds),
    )


async def admit_request(database: Database, email: str, origin: LoginOrigin) -> None:
    """Bounds how many mails one mailbox gets; counts unknown ones alike."""
    await admit(database, _POLICY, Attempt("email", email, origin.address))


async def send_verification(database: Database, links: EmailLinks, user_id: UUID, to: str) -> None:
    await _send(database, links, user_id, to, "verify-email")


async def send_password_reset(database: Database, links: EmailLinks, email: str) -> None:
    """To whoever is registered with it; nothing happens when nobody is."""
    try:
        user_id = await repository.get_user_id(database, email)
    except AppError as error:
        log.error("mail not sent", purpose="reset-password", reason=str(error.detail))
        return
    if user_id is not None:
        await _send(database, links, user_id, email, "reset-password")


async def void_links(session: AsyncSession, user_id: UUID) -> None:
    """The address has changed: who reads the old mailbox must get nowhere."""
    await repository.delete_email_tokens(session, user_id, "verify-email", "reset-password")


async def verify_email(database: Database, token: str) -> None:
    token_hash = hash_opaque_token(token)
    owner_id = await repository.get_user_id_of_email_token(database, token_hash, "verify-email")
    if owner_id is None:
        raise _spent()
    async with database.transaction() as session:
        # The user first: two links of one user, spent at once, must not wait for each other.
        await repository.get_user(session, owner_id)
        if not await repository.spend_email_token(session, token_hash, "verify-email"):
            raise _spent()
        await repository.set_email_verified(session, owner_id)


async def reset_password(
    database: Database, hasher: PasswordHasher, origin: LoginOrigin, token: str, new_password: str
) -> None:
    """Every session ends: whoever knew the old password is out."""
    token_hash = hash_opaque_token(token)
    # Asked first, so that nobody makes us hash passwords with invented tokens.
    owner_id = await repository.get_user_id_of_email_token(database, token_hash, "reset-password")
    if owner_id is None:
        raise _spent()
    new_hash = await hasher.hash(new_password)
    async with database.transaction() as session:
        user = await repository.get_user(session, owner_id)
        if user is None or not await repository.spend_email_token(
            session, token_hash, "reset-password"
        ):
            raise _spent()
        user.password_hash = new_hash
        await repository.set_email_verified(session, user.id)
        await repository.delete_sessions_of_user(session, user.id)
        await repository.delete_email_tokens(session, user.id, "reset-password")
    # Whoever reads the mailbox may log in from here, however many strangers guess elsewhere.
    await trust_address(database, hasher.guess_policy, Login(user.email, "", origin).attempt)


async def _send(
    database: Database, links: EmailLinks, user_id: UUID, to: str, purpose: Purpose
) -> None:
    token = new_opaque_token()
    lives = links.verification if purpose == "verify-email" else links.reset
    expires_at = datetime.now(UTC) + lives
    # After the # : browsers send that part to no server, so it is in no log and no Referer.
    url = f"{links.public_url}/{purpose}#token={token}"
    subject, text = _MESSAGES[purpose](url, lives)
    try:
        async with database.transaction() as session:
            await repository.add_email_token(
                session, hash_opaque_token(token), user_id, purpose, expires_at
            )
        await links.mailer.send(to, subject, text)
    except (MailError, AppError) as error:
        # The response is out already: only the log can tell.
        log.error("mail not sent", purpose=purpose, user_id=str(user_id), reason=str(error))


def _verification_message(url: str, lives: timedelta) -> tuple[str, str]:
    return "Verify your email address", (
        "Please open this link to show that this address is yours:\n\n"
        f"{url}\n\nIt works once and for {_spoken(lives)}."
        " If you did not sign up, you need not do anything.\n"
    )


def _reset_message(url: str, lives: timedelta) -> tuple[str, str]:
    return "Reset your password", (
        "Somebody, probably you, wants a new password for your account."
        f" Please open this link to choose one:\n\n{url}\n\n"
        f"It works once and for {_spoken(lives)}."
        " If it was not you, you need not do anything: your password stays as it is.\n"
    )


_MESSAGES: dict[Purpose, Callable[[str, timedelta], tuple[str, str]]] = {
    "verify-email": _verification_message,
    "reset-password": _reset_message,
}


def _spoken(lives: timedelta) -> str:
    seconds = int(lives.total_seconds())
    if seconds < 2 * _SECONDS_PER_HOUR:
        return f"{seconds // 60} minutes"
    return f"{seconds // _SECONDS_PER_HOUR} hours"


def _spent() -> ForbiddenError:
    return ForbiddenError("The token is not valid, was used before or has expired.")
