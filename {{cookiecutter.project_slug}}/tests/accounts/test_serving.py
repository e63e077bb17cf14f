"""Gunicorn with the real application: what happens to tokens and mail when its workers change."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from httpx2 import Response
from jose import jwt

from app.settings import Settings
from tests.conftest import PASSWORD, empty_tables
from tests.mailbox import Mailbox
from tests.servers import (
    ROOT,
    SERVICE,
    Gunicorn,
    service_environment,
    start_gunicorn,
    wait_until,
)

pytestmark = pytest.mark.system

EMAIL = "ada@example.com"
Serve = Callable[..., Gunicorn]


@pytest.fixture
def serve(settings: Settings, migrated: None, tmp_path: Path) -> Iterator[Serve]:
    """In a folder with an .env of its own, as a service on a host has it."""
    (tmp_path / ".env").write_text(f"SECRET_KEY={settings.secret_key.get_secret_value()}\n")
    with ExitStack() as running:

        def serve(**environment: str) -> Gunicorn:
            variables = environment_of(settings) | environment
            gunicorn = running.enter_context(start_gunicorn(tmp_path, variables, *SERVICE))
            gunicorn.wait_until_ready()
            return gunicorn

        yield serve
    empty_tables(settings)


def environment_of(settings: Settings) -> dict[str, str]:
    """The secret is in `.env` and nowhere else."""
    variables = service_environment(settings) | {"WEB_CONCURRENCY": "2"}
    return {name: text for name, text in variables.items() if name != "SECRET_KEY"}


def manage(gunicorn: Gunicorn, settings: Settings, *arguments: str) -> None:
    command_line = (sys.executable, "-c", "from manage.cli import main; main()", *arguments)
    variables = os.environ | environment_of(settings) | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command_line, cwd=gunicorn.directory, env=variables, check=True)


def log_in(gunicorn: Gunicorn) -> str:
    form = {"username": EMAIL, "password": PASSWORD}
    answer = gunicorn.client.post("/api/v1/auth/token", data=form)
    return str(answer.raise_for_status().json()["access_token"])


def read_me(gunicorn: Gunicorn, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return gunicorn.client.get("/api/v1/users/me", headers=headers).status_code


def sign_up(gunicorn: Gunicorn) -> Response:
    return gunicorn.client.post("/api/v1/users", json={"email": EMAIL, "password": PASSWORD})


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_tokens_stay_good_when_the_key_is_rotated_while_serving(
    serve: Serve, settings: Settings
) -> None:
    gunicorn = serve()
    sign_up(gunicorn).raise_for_status()
    old = log_in(gunicorn)
    manage(gunicorn, settings, "keys", "rotate", "--algorithm", "ES256", "--stage")
    gunicorn.process.send_signal(signal.SIGHUP)
    # Every worker knows the new key before one of them signs with it.
    wait_until(lambda: all(_published(gunicorn) for _ in range(10)))
    assert kid(log_in(gunicorn)) == kid(old)
    manage(gunicorn, settings, "keys", "rotate", "--promote")
    gunicorn.process.send_signal(signal.SIGHUP)
    new = log_in(gunicorn)
    while kid(new) == kid(old):
        assert read_me(gunicorn, old) == 200
        new = log_in(gunicorn)
    # Whichever worker answers, the old ones that are leaving included.
    assert [read_me(gunicorn, token) for token in (old, new) * 10] == [200] * 20


def _published(gunicorn: Gunicorn) -> bool:
    return bool(gunicorn.get("/.well-known/jwks.json").json()["keys"])


async def test_mail_is_sent_when_the_worker_is_killed_after_the_answer(
    serve: Serve, settings: Settings, mailbox: Mailbox
) -> None:
    server = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "SMTP_SECURITY": "none"}
    gunicorn = await asyncio.to_thread(serve, **server)
    answer = await asyncio.to_thread(sign_up, gunicorn)
    gunicorn.process.kill()
    assert (answer.status_code, mailbox.messages) == (201, [])
    command_line = (sys.executable, "-c", "from manage.cli import main; main()", "work")
    variables = environment_of(settings) | server | {"PYTHONPATH": str(ROOT)}
    jobs = await asyncio.create_subprocess_exec(
        *command_line, cwd=gunicorn.directory, env=os.environ | variables
    )
    await asyncio.to_thread(wait_until, lambda: bool(mailbox.messages))
    jobs.terminate()
    assert await jobs.wait() == 0
    assert [message["to"] for message in mailbox.messages] == [EMAIL]
