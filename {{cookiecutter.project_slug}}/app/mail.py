"""Sends mail: through SMTP where a server is set, into the log in development."""

import asyncio
from email.message import EmailMessage
from email.utils import formataddr
from typing import Protocol

import aiosmtplib
import structlog

from app.settings import Settings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


# Of one worker. Postfix takes 50 from one client; the rest waits within the time of its mail.
# https://www.postfix.org/postconf.5.html#smtpd_client_connection_count_limit
_CONNECTIONS_MAX = 10


class MailError(Exception):
    """The mail was not handed over; the cause says why."""


class Mailer(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None: ...


class SmtpMailer:
    """A connection for each mail: a service sends few, and none is idle when the server closes."""

    def __init__(self, settings: Settings, host: str) -> None:
        password = settings.smtp_password
        self._title = settings.service_title
        self._from = formataddr((settings.mail_from.name, settings.mail_from.email))
        self._host, self._port = host, settings.smtp_port
        self._user = settings.smtp_user
        self._password = password.get_secret_value() if password else None
        self._security = settings.smtp_security
        self._timeout_seconds = settings.smtp_timeout_seconds
        self._connections = asyncio.Semaphore(_CONNECTIONS_MAX)

    async def send(self, to: str, subject: str, text: str) -> None:
        try:
            message = self._message(to, subject, text)
            # aiosmtplib's own limit is for each of about seven answers of the server.
            async with asyncio.timeout(self._timeout_seconds), self._connections:
                await self._hand_over(message)
        except TimeoutError as error:
            raise MailError(f"not handed over within {self._timeout_seconds:g} s") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(str(error)) from error

    async def _hand_over(self, message: EmailMessage) -> None:
        await aiosmtplib.send(
            message,
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._security == "tls",
            # None would go on in plain text when the server offers no TLS.
            start_tls=self._security == "starttls",
        )

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = self._from, to
        message["Subject"] = f"{self._title}: {subject}"
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
