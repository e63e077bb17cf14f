"""A real SMTP server for tests, and the settings of a service that uses it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from app.settings import Settings


@dataclass
class Mailbox:
    """What the server has received."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    refuses: bool = False
    answers_after_seconds: float = 0
    together: int = 0
    together_max: int = 0

    def last_text(self) -> str:
        return cast("str", self.messages[-1].get_content())

    async def handle_DATA(self, _server: SMTP, _session: SmtpSession, envelope: Envelope) -> str:
        self.together += 1
        self.together_max = max(self.together, self.together_max)
        await asyncio.sleep(self.answers_after_seconds)
        self.together -= 1
        if self.refuses:
            return "550 no"
        message = message_from_bytes(cast("bytes", envelope.content), policy=policy.default)
        self.messages.append(message)
        return "250 OK"


@asynccontextmanager
async def running_mailbox() -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    yield mailbox
    server.close()
    await server.wait_closed()


def smtp_settings(settings: Settings, mailbox: Mailbox) -> Settings:
    server = {"smtp_host": "127.0.0.1", "smtp_port": mailbox.port, "smtp_security": "none"}
    return settings.model_copy(update=server)
