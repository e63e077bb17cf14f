"""Links sent by email: they verify an address or reset a password.

Sending happens after the response, so that nobody can tell from the time it takes who is
registered. A crash in between loses the mail: the user asks for another one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.authentication import Authenticator, LoginOrigin, admit
from app.accounts.models import EmailToken, User
from app.accounts.passwords import UNCHANGED, PasswordHasher
from app.accounts.schemas import PasswordReset
from app.accounts.tokens import hash_opaque_token, new_opaque_token
from app.database import Database
from app.errors import AppError, ForbiddenError, InvalidInputError
from app.mail import Mailer, MailError, NoMailer
from app.security_events import SecurityEvent, hash_email, record_event
from app.settings import Settings
from app.throttling.service import Attempt, ThrottlePolicy, login_policy, trust_address

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Purpose = Literal["verify-email", "reset-password"]
# Each counts apart.
MailReason = Literal["sign-up", "verify-email", "reset-password"]

_SECONDS_PER_HOUR = 3600
# Many mail servers deliver ada+1@ to ada@, some a.da@ as well.
_SAME_MAILBOX = re.compile(r"\+.*|\.")


@dataclass(frozen=True)
class EmailLinks:
    """What is needed to send links; made once per worker."""

    database: Database
    settings: Settings
    mailer: Mailer

    @property
    def is_mail_set_up(self) -> bool:
        return not isinstance(self.mailer, NoMailer)


async def admit_request(
    links: EmailLinks, reason: MailReason, email: str, origin: LoginOrigin
) -> None:
    """Bounds how many mails one mailbox gets; counts unknown ones alike."""
    local, _, domain = email.rpartition("@")
    mailbox = f"{_SAME_MAILBOX.sub('', local)}@{domain}"
    attempt = Attempt(reason, email, origin.address, counted_as=mailbox)
    await admit(links.database, links.settings, mail_policy(links.settings, reason), attempt)


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


async def send_password_reset(links: EmailLinks, email: str) -> None:
    """To whoever is registered with it; nothing happens when nobody is."""
    try:
        user = await repository.get_credentials(links.database, email)
    except AppError as error:
        log.error("mail not sent", purpose="reset-password", reason=str(error.detail))
        return
    if user is None:
        hashed = hash_email(links.settings, email)
        record_event(SecurityEvent.PASSWORD_RESET_REQUESTED, email_hash=hashed)
    else:
        record_event(SecurityEvent.PASSWORD_RESET_REQUESTED, user.user_id)
        await send_link(links, user.user_id, email, "reset-password")


async def verify_email(session: AsyncSession, token: str) -> None:
    user = await repository.spend_email_token(session, hash_opaque_token(token), "verify-email")
    if user is None:
        raise _spent()
    user.email_verified_at = user.email_verified_at or datetime.now(UTC)
    record_event(SecurityEvent.EMAIL_VERIFIED, user.id)


async def reset_password(
    authenticator: Authenticator, origin: LoginOrigin, body: PasswordReset
) -> str:
    """Every session ends: whoever knew the old password is out. The email of the owner."""
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
    record_event(SecurityEvent.PASSWORD_RESET, user.id)
    # Whoever reads the mailbox may log in from here, however many strangers guess elsewhere.
    policy = login_policy(authenticator.settings)
    await trust_address(database, policy, Attempt("login", user.email, origin.address))
    return user.email


async def send_password_notice(links: EmailLinks, to: str) -> None:
    address = f"{str(links.settings.public_url).rstrip('/')}"
    text = (
        f"The password of your account at {address} was changed at this moment.\n\n"
        "If it was not you, ask for a link there to choose another one;"
        " all sessions end when you use it.\n"
    )
    try:
        await links.mailer.send(to, "Your password was changed", text)
    except MailError as error:
        log.error("mail not sent", purpose="password-notice", reason=str(error))


async def _hash_new(hasher: PasswordHasher, owner: User, password: str) -> str:
    hasher.refuse_obvious(password, owner.email)
    is_old, _ = await hasher.verify(password, owner.password_hash)
    if is_old:
        raise InvalidInputError(UNCHANGED)
    return await hasher.hash(password)


async def send_link(links: EmailLinks, user_id: UUID, to: str, purpose: Purpose) -> None:
    token = new_opaque_token()
    lifetime = _lifetime(links.settings, purpose)
    row = EmailToken(
        token_hash=hash_opaque_token(token),
        user_id=user_id,
        purpose=purpose,
        expires_at=datetime.now(UTC) + lifetime,
    )
    # After the # : browsers send that part to no server, so it is in no log and no Referer.
    url = f"{str(links.settings.public_url).rstrip('/')}/{purpose}#token={token}"
    subject, text = _MESSAGES[purpose]
    try:
        async with links.database.transaction() as session:
            session.add(row)
        await links.mailer.send(to, subject, text.format(url=url, lifetime=_spoken(lifetime)))
    except (MailError, AppError) as error:
        # The response is out already: only the log can tell.
        log.error("mail not sent", purpose=purpose, user_id=str(user_id), reason=str(error))


def _lifetime(settings: Settings, purpose: Purpose) -> timedelta:
    if purpose == "verify-email":
        return timedelta(seconds=settings.email_verification_seconds)
    return timedelta(seconds=settings.password_reset_seconds)


_MESSAGES: Mapping[Purpose, tuple[str, str]] = {
    "verify-email": (
        "Verify your email address",
        "Please open this link to show that this address is yours:\n\n"
        "{url}\n\nIt works once and for {lifetime}."
        " If you did not sign up, you need not do anything.\n",
    ),
    "reset-password": (
        "Reset your password",
        "Somebody, probably you, wants a new password for your account."
        " Please open this link to choose one:\n\n{url}\n\n"
        "It works once and for {lifetime}."
        " If it was not you, you need not do anything: your password stays as it is.\n",
    ),
}


def _spoken(lifetime: timedelta) -> str:
    seconds = int(lifetime.total_seconds())
    if seconds < 2 * _SECONDS_PER_HOUR:
        return f"{seconds // 60} minutes"
    return f"{seconds // _SECONDS_PER_HOUR} hours"


def _spent() -> ForbiddenError:
    return ForbiddenError("The token is not valid, was used before or has expired.")
