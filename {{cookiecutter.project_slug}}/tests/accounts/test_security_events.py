"""What happens to accounts can be followed in the log, and nothing secret is in it."""

import re
from collections.abc import Iterator, MutableMapping
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from httpx2 import AsyncClient
from sqlalchemy import update

from app.accounts.models import RefreshToken
from app.database import Database
from app.lifespan import State, build_state
from app.security_events import SecurityEvent
from app.settings import Settings
from tests.accounts.test_email_links import ask_for_reset, client, reset, state, token_in_last_mail
from tests.accounts.test_router import log_in, refresh
from tests.admins import act, entries
from tests.admins import log_in as log_in_to_admin
from tests.conftest import PASSWORD, SignedInUser
from tests.mailbox import Mailbox

__all__ = ["client", "state"]

Lines = list[MutableMapping[str, object]]
EARLIER = timedelta(minutes=1)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


def events(lines: Lines) -> list[str]:
    return [str(line["event"]) for line in lines if line["event"] in set(SecurityEvent)]


def last(lines: Lines, event: SecurityEvent) -> MutableMapping[str, object]:
    return next(line for line in reversed(lines) if line["event"] == event)


async def test_wrong_login_tells_account_address_and_request(
    client: AsyncClient, user: SignedInUser, lines: Lines
) -> None:
    answer = await log_in(client, "wrong password")
    line = last(lines, SecurityEvent.LOGIN_FAILED)
    assert (line["user_id"], line["client"], line["door"]) == (str(user.id), "127.0.0.1", "login")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "wrong password" not in str(lines)


async def test_unknown_email_is_not_in_the_log(client: AsyncClient, lines: Lines) -> None:
    form = {"username": "my password by mistake", "password": PASSWORD}
    for _ in range(2):
        await client.post("/api/v1/auth/token", data=form)
    hashes = {line.get("email_hash") for line in lines if line["event"] == "login_failed"}
    assert len(hashes) == 1
    assert "mistake" not in str(lines)


async def test_life_of_an_account_is_told(
    client: AsyncClient, mailbox: Mailbox, lines: Lines
) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD}
    await client.post("/api/v1/users", json=body)
    await client.post("/api/v1/auth/verify-email", json={"token": token_in_last_mail(mailbox)})
    headers = {"Authorization": f"Bearer {(await log_in(client)).json()['access_token']}"}
    change = {"current_password": PASSWORD, "new_password": "another good one"}
    await client.put("/api/v1/users/me/password", json=change, headers=headers)
    await client.post("/api/v1/auth/logout-all", headers=headers)
    await ask_for_reset(client, "ada@example.com")
    await reset(client, token_in_last_mail(mailbox), "a third one, good as well")
    assert events(lines) == [
        "signed_up",
        "email_verified",
        "login_succeeded",
        "password_changed",
        "sessions_ended",
        "password_reset_requested",
        "password_reset",
    ]
    assert "good" not in str(lines)


async def test_reuse_of_a_refresh_token_is_told(
    client: AsyncClient, user: SignedInUser, database: Database, lines: Lines
) -> None:
    token = (await log_in(client)).json()["refresh_token"]
    await refresh(client, token)
    async with database.transaction() as session:
        long_ago = update(RefreshToken).where(RefreshToken.used_at.is_not(None))
        await session.execute(long_ago.values(used_at=RefreshToken.created_at - EARLIER))
    await refresh(client, token)
    assert last(lines, SecurityEvent.REFRESH_TOKEN_REUSED)["user_id"] == str(user.id)


async def test_throttled_login_is_told(
    client: AsyncClient, user: SignedInUser, lines: Lines
) -> None:
    while (await log_in(client, "wrong")).status_code != 429:
        pass
    assert last(lines, SecurityEvent.ATTEMPT_THROTTLED)["door"] == "login"


async def test_role_given_by_an_admin_is_told(
    admin: AsyncClient, user: SignedInUser, lines: Lines
) -> None:
    await act(admin, "make-admin", user.id)
    line = last(lines, SecurityEvent.ADMIN_ACTION)
    assert (line["action"], line["subject_id"]) == ("change role", str(user.id))
    assert line["changed"] == ["role"]


async def test_wrong_login_to_the_admin_app_is_in_the_audit_log(
    client: AsyncClient, state: State, user: SignedInUser
) -> None:
    await log_in_to_admin(client, user.email)  # the right password of somebody without the rights
    await log_in_to_admin(client, user.email, "wrong")
    await log_in_to_admin(client, "my password by mistake", "wrong")
    told = [(email, action) for email, action, _, _ in await entries(state)]
    assert [action for _, action in told] == ["log in failed"] * 3
    assert [email for email, _ in told][:2] == [user.email] * 2
    assert told[2][0].startswith("unknown ")
    assert "mistake" not in told[2][0]


async def test_worker_tells_which_keys_it_knows(
    settings: Settings, database: Database, lines: Lines
) -> None:
    build_state(settings, database)
    assert last(lines, SecurityEvent.TOKEN_KEYS_LOADED)["signs"] == "secret-key"


def test_page_of_security_lists_the_events_of_the_code() -> None:
    page = ROOT.joinpath("docs", "security-events.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z_]+)` \|", page, re.M)
    assert listed == [event.value for event in SecurityEvent]
    files = [*ROOT.glob("app/*/*.py"), ROOT / "app/lifespan.py", *ROOT.glob("manage/*.py")]
    code = "".join(path.read_text("utf-8") for path in files)
    assert [event for event in SecurityEvent if f"SecurityEvent.{event.name}" not in code] == []
