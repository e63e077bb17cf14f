"""Mail, through a real SMTP server on this machine."""

import asyncio
import socket
from contextlib import suppress

import pytest

from app.mail import LogMailer, MailError, NoMailer, SmtpMailer, build_mailer
from app.settings import Settings
from tests.mailbox import Mailbox, smtp_settings


async def test_mail_arrives(settings: Settings, mailbox: Mailbox) -> None:
    mailer = build_mailer(smtp_settings(settings, mailbox))
    await mailer.send("ada@example.com", "Grüße", "Guten Tag, Ada.")
    (message,) = mailbox.messages
    title = settings.service_title
    assert (message["to"], message["subject"]) == ("ada@example.com", f"{title}: Grüße")
    assert message["from"] == f"{title} <service@localhost.localdomain>"
    assert message.get_content().strip() == "Guten Tag, Ada."


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_is_not_sent_in_plain_text_when_tls_is_asked_for(
    settings: Settings, mailbox: Mailbox, security: str
) -> None:
    secure = smtp_settings(settings, mailbox).model_copy(
        update={"smtp_security": security, "smtp_timeout_seconds": 1}
    )
    with pytest.raises(MailError):
        await build_mailer(secure).send("ada@example.com", "a", "b")
    assert mailbox.messages == []


async def test_mail_error_is_told_when_the_server_refuses(
    settings: Settings, mailbox: Mailbox
) -> None:
    mailbox.refuses = True
    with pytest.raises(MailError):
        await build_mailer(smtp_settings(settings, mailbox)).send("ada@example.com", "a", "b")


async def test_mail_error_is_told_in_time_when_the_server_is_slow_with_every_answer(
    settings: Settings,
) -> None:
    async def dawdle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"220-wait\r\n")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()
        left.set()

    left = asyncio.Event()
    server = await asyncio.start_server(dawdle, "127.0.0.1", 0)
    slow = smtp_settings(settings, Mailbox(server.sockets[0].getsockname()[1]))
    mailer = build_mailer(slow.model_copy(update={"smtp_timeout_seconds": 0.5}))
    async with server, asyncio.timeout(5):
        with pytest.raises(MailError, match=r"within 0\.5 s"):
            await mailer.send("ada@example.com", "a", "b")
        await left.wait()


async def test_mail_error_is_told_when_no_server_listens(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = Mailbox(taken.getsockname()[1])
    with pytest.raises(MailError):
        await build_mailer(smtp_settings(settings, away)).send("ada@example.com", "a", "b")


async def test_server_gets_no_more_connections_than_one_worker_may_open(
    settings: Settings, mailbox: Mailbox
) -> None:
    mailer = build_mailer(smtp_settings(settings, mailbox))
    await asyncio.gather(*(mailer.send("ada@example.com", "a", "b") for _ in range(25)))
    assert len(mailbox.messages) == 25
    assert mailbox.together_max <= 10


async def test_header_cannot_be_added_through_the_recipient(
    settings: Settings, mailbox: Mailbox
) -> None:
    mailer = build_mailer(smtp_settings(settings, mailbox))
    with pytest.raises(MailError):
        await mailer.send("ada@example.com\nBcc: eve@example.com", "a", "b")


@pytest.mark.parametrize(
    ("environment", "kind"), [("development", LogMailer), ("production", NoMailer)]
)
def test_log_gets_mail_in_development_only(
    settings: Settings, environment: str, kind: type
) -> None:
    without_server = settings.model_copy(update={"environment": environment})
    assert isinstance(build_mailer(without_server), kind)
    assert not isinstance(build_mailer(without_server), SmtpMailer)
