"""The mails about an account, sent by jobs: enqueued with the change they tell about.

A job has no link and no token in it: who reads the table of the jobs, or a backup of it, learns
none. The token is made when the mail is sent, anew for each attempt.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository
from app.accounts.models import EmailToken, User
from app.accounts.tokens import hash_opaque_token, new_opaque_token
from app.jobs.queue import Work, task
from app.mail import is_set_up
from app.security_events import SecurityEvent, hash_email, record_event
from app.settings import Settings

Purpose = Literal["verify-email", "reset-password"]

_SECONDS_PER_HOUR = 3600
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


@task("accounts.verify-email", may_run_twice=True)
async def send_verification(work: Work, user_id: str) -> None:
    async with work.database.transaction() as session:
        user = await session.get(User, UUID(user_id))
    if user is not None:
        await _send_link(work, user.id, user.email, "verify-email")


@task("accounts.reset-password", may_run_twice=True)
async def send_password_reset(work: Work, email: str) -> None:
    """To whoever is registered with it; nothing happens when nobody is."""
    user = await repository.get_credentials(work.database, email)
    if user is None:
        hashed = hash_email(work.settings, email)
        record_event(SecurityEvent.PASSWORD_RESET_REQUESTED, email_hash=hashed)
    else:
        record_event(SecurityEvent.PASSWORD_RESET_REQUESTED, user.user_id)
        await _send_link(work, user.user_id, email, "reset-password")


@task("accounts.password-notice", may_run_twice=True)
async def send_password_notice(work: Work, email: str, changed_at: str) -> None:
    text = (
        f"The password of your account at {_address(work.settings)}"
        f" was changed at {changed_at}.\n\n"
        "If it was not you, ask for a link there to choose another one;"
        " all sessions end when you use it.\n"
    )
    await work.mailer.send(email, "Your password was changed", text)


async def enqueue_password_notice(session: AsyncSession, settings: Settings, email: str) -> None:
    """Tells the owner, where mail is set up."""
    if is_set_up(settings):
        changed_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        await send_password_notice.enqueue(session, email=email, changed_at=changed_at)


async def _send_link(work: Work, user_id: UUID, to: str, purpose: Purpose) -> None:
    token = new_opaque_token()
    lifetime = _lifetime(work.settings, purpose)
    row = EmailToken(
        token_hash=hash_opaque_token(token),
        user_id=user_id,
        purpose=purpose,
        expires_at=datetime.now(UTC) + lifetime,
    )
    # After the # : browsers send that part to no server, so it is in no log and no Referer.
    url = f"{_address(work.settings)}/{purpose}#token={token}"
    subject, text = _MESSAGES[purpose]
    async with work.database.transaction() as session:
        session.add(row)
    await work.mailer.send(to, subject, text.format(url=url, lifetime=_spoken(lifetime)))


def _address(settings: Settings) -> str:
    return str(settings.public_url).rstrip("/")


def _lifetime(settings: Settings, purpose: Purpose) -> timedelta:
    if purpose == "verify-email":
        return timedelta(seconds=settings.email_verification_seconds)
    return timedelta(seconds=settings.password_reset_seconds)


def _spoken(lifetime: timedelta) -> str:
    seconds = int(lifetime.total_seconds())
    if seconds < 2 * _SECONDS_PER_HOUR:
        return f"{seconds // 60} minutes"
    return f"{seconds // _SECONDS_PER_HOUR} hours"
