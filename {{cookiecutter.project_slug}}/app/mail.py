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
        self._settings = settings
        self._host = host
        self._connections = asyncio.Semaphore(_CONNECTIONS_MAX)

    async def send(self, to: str, subject: str, text: str) -> None:
        timeout_seconds = self._settings.smtp_timeout_seconds
        try:
            message = self._message(to, subject, text)
            # aiosmtplib's own limit is for each of about seven answers of the server.
            async with asyncio.timeout(timeout_seconds), self._connections:
                await self._hand_over(message)
        except TimeoutError as error:
            raise MailError(f"not handed over within {timeout_seconds:g} s") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(str(error)) from error

    async def _hand_over(self, message: EmailMessage) -> None:
        settings, password = self._settings, self._settings.smtp_password
        await aiosmtplib.send(
            message,
            hostname=self._host,
            port=settings.smtp_port,
            username=settings.smtp_user,
            password=password.get_secret_value() if password else None,
            use_tls=settings.smtp_security == "tls",
            # None would go on in plain text when the server offers no TLS.
            start_tls=settings.smtp_security == "starttls",
        )

    def _message(self, to: str, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        sender = self._settings.mail_from
        message["From"], message["To"] = formataddr((sender.name, sender.email)), to
        message["Subject"] = f"{self._settings.service_title}: {subject}"
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
        log.error("mail not sent", reason="SMTP_HOST is not set")


def is_set_up(settings: Settings) -> bool:
    return settings.smtp_host is not None or settings.environment == "development"


def build_mailer(settings: Settings) -> Mailer:
    if settings.smtp_host:
        return SmtpMailer(settings, settings.smtp_host)
    return LogMailer() if is_set_up(settings) else NoMailer()
