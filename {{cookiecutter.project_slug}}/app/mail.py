"""Sends mail: through SMTP where a server is set, into the log in development."""

from email.message import EmailMessage
from email.utils import formataddr
from typing import Protocol

import aiosmtplib
import structlog

from app.settings import Settings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class MailError(Exception):
    """The mail was not handed over; the cause says why."""


class Mailer(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None: ...


class SmtpMailer:
    """A connection for each mail: a service sends few, and none is idle when the server closes."""

    def __init__(self, settings: Settings, host: str) -> None:
        password = settings.smtp_password
        self._from = formataddr((settings.mail_from.name, settings.mail_from.email))
        self._host, self._port = host, settings.smtp_port
        self._user = settings.smtp_user
        self._password = password.get_secret_value() if password else None
        self._security = settings.smtp_security
        self._timeout_seconds = settings.smtp_timeout_seconds

    async def send(self, to: str, subject: str, text: str) -> None:
        try:
            message = self._message(to, subject, text)
            await aiosmtplib.send(
                message,
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._security == "tls",
                # None would go on in plain text when the server offers no TLS.
                start_tls=self._security == "starttls",
                timeout=self._timeout_seconds,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(str(error)) from error

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._from, to, subject
        # Keeps absence notes and the like from answering (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message


class LogMailer:
    async def send(self, to: str, subject: str, text: str) -> None:
        log.info("mail", to=to, subject=subject, text=text)


class NoMailer:
    """A log of production is no place for links that open accounts."""

    async def send(self, to: str, subject: str, text: str) -> None:
        raise MailError("SMTP_HOST is not set")


def build_mailer(settings: Settings) -> Mailer:
    if settings.smtp_host:
        return SmtpMailer(settings, settings.smtp_host)
    return LogMailer() if settings.environment == "development" else NoMailer()
