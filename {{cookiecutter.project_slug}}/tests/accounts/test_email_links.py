"""Links sent by email, through HTTP and SMTP."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from sqlalchemy import delete, func, select, update
from starlette.types import Message, Receive, Scope, Send

from app.accounts.models import EmailToken
from app.database import Database
from app.jobs.models import Job
from app.lifespan import State, build_state
from app.mail import MailError
from app.settings import Settings
from app.throttling.models import ThrottleBucket
from tests.accounts.test_router import log_in, read_me
from tests.conftest import PASSWORD, SignedInUser, connect, sign_up
from tests.job_runner import run_jobs
from tests.mailbox import Mailbox, smtp_settings
from tests.throttling.test_service import wait

NEW_PASSWORD = "another good one"


@pytest.fixture
def state(settings: Settings, database: Database, mailbox: Mailbox) -> State:
    return build_state(smtp_settings(settings, mailbox), database)


@pytest.fixture
async def client(app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    """With the jobs of a request done before its answer is looked at."""

    async def with_jobs(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        await run_jobs(state["database"], state["settings"])

    async with connect(with_jobs, state) as client:
        yield client


async def ask_for_reset(client: AsyncClient, email: str) -> Response:
    return await client.post("/api/v1/auth/password-reset/request", json={"email": email})


async def reset(client: AsyncClient, token: str, password: str = NEW_PASSWORD) -> Response:
    body = {"token": token, "new_password": password}
    return await client.post("/api/v1/auth/password-reset", json=body)


def token_in_last_mail(mailbox: Mailbox) -> str:
    found = re.search(r"http://127\.0\.0\.1:8080/[a-z-]+#token=(\S+)", mailbox.last_text())
    assert found
    return found[1]


async def test_registration_sends_a_link_that_verifies_the_address(
    client: AsyncClient, mailbox: Mailbox
) -> None:
    body = {"email": "ada@example.com", "password": "correct horse battery staple"}
    await client.post("/api/v1/users", json=body)
    token = token_in_last_mail(mailbox)
    response = await client.post("/api/v1/auth/verify-email", json={"token": token})
    assert response.status_code == 204
    pair = (await log_in(client)).json()
    assert (await read_me(client, pair["access_token"])).json()["email_verified_at"]
    again = await client.post("/api/v1/auth/verify-email", json={"token": token})
    assert again.status_code == 403


async def test_verification_link_is_sent_again_on_request(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    response = await client.post("/api/v1/auth/verify-email/request", headers=user.headers)
    assert response.status_code == 202
    assert mailbox.messages[-1]["to"] == user.email


async def test_reset_sets_the_password_and_ends_all_sessions(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, "Ada@Example.com")
    assert (await reset(client, token_in_last_mail(mailbox))).status_code == 204
    assert (await client.get("/api/v1/users/me", headers=user.headers)).status_code == 401
    assert (await log_in(client)).status_code == 401
    assert (await log_in(client, NEW_PASSWORD)).status_code == 200


async def test_reset_is_refused_when_the_token_was_used(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, user.email)
    await ask_for_reset(client, user.email)
    first, second = (
        re.findall(r"#token=(\S+)", message.get_content())[0] for message in mailbox.messages
    )
    assert (await reset(client, second)).status_code == 204
    # All of them are void, not only the one that was used.
    assert (await reset(client, second)).status_code == 403
    assert (await reset(client, first)).status_code == 403


async def test_reset_is_refused_when_the_token_has_expired(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox, database: Database
) -> None:
    await ask_for_reset(client, user.email)
    async with database.transaction() as session:
        past = func.now() - timedelta(seconds=1)
        await session.execute(update(EmailToken).values(expires_at=past))
    assert (await reset(client, token_in_last_mail(mailbox))).status_code == 403


async def test_reset_is_refused_when_the_token_is_for_something_else(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await client.post("/api/v1/auth/verify-email/request", headers=user.headers)
    assert (await reset(client, token_in_last_mail(mailbox))).status_code == 403


async def test_token_stays_good_when_the_new_password_is_refused(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, user.email)
    token = token_in_last_mail(mailbox)
    assert (await reset(client, token, "password123")).status_code == 422
    assert (await reset(client, token)).status_code == 204


async def test_token_is_stored_as_a_hash(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox, database: Database
) -> None:
    await ask_for_reset(client, user.email)
    rows = await database.read_all(select(EmailToken.token_hash))
    assert [len(row[0]) for row in rows] == [32]
    assert token_in_last_mail(mailbox).encode() not in rows[0][0]


async def test_answer_is_the_same_and_no_mail_is_sent_when_nobody_has_the_address(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    unknown = await ask_for_reset(client, "nobody@example.com")
    assert mailbox.messages == []
    known = await ask_for_reset(client, user.email)
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.status_code == 202


async def test_user_is_looked_up_only_after_the_response(
    app: FastAPI, state: State, user: SignedInUser, statements: list[str]
) -> None:
    before_response: list[str] = []

    async def spied(scope: Scope, receive: Receive, send: Send) -> None:
        async def note_statements(message: Message) -> None:
            await asyncio.sleep(0)  # the driver logs in the next turn of the loop
            before_response[:] = before_response or statements
            await send(message)

        await app(scope, receive, note_statements)

    statements.clear()
    async with connect(spied, state) as client:
        await ask_for_reset(client, user.email)
    assert before_response
    assert not any("app_user" in statement for statement in before_response)
    await run_jobs(state["database"], state["settings"])
    assert any("app_user" in statement for statement in statements)


async def test_mails_are_bounded_alike_when_the_address_is_unknown(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    for email in (user.email, "nobody@example.com"):
        statuses = [(await ask_for_reset(client, email)).status_code for _ in range(6)]
        assert statuses == [202] * 5 + [429]
    assert len(mailbox.messages) == 5


async def test_reset_link_dies_when_the_password_is_changed(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, user.email)
    token = token_in_last_mail(mailbox)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = await client.put("/api/v1/users/me/password", json=body, headers=user.headers)
    assert changed.status_code == 204
    assert (await reset(client, token, "a third one, good as well")).status_code == 403


async def test_owner_is_told_by_mail_when_the_password_is_changed_or_reset(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox
) -> None:
    await ask_for_reset(client, user.email)
    await reset(client, token_in_last_mail(mailbox))
    pair = (await log_in(client, NEW_PASSWORD)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    body = {"current_password": NEW_PASSWORD, "new_password": PASSWORD}
    await client.put("/api/v1/users/me/password", json=body, headers=headers)
    notices = [mail for mail in mailbox.messages if "was changed" in mail["subject"]]
    assert [mail["to"] for mail in notices] == [user.email] * 2
    assert PASSWORD not in str(mailbox.messages)


async def test_mails_of_one_mailbox_are_bounded_when_its_names_differ(
    client: AsyncClient, mailbox: Mailbox
) -> None:
    statuses = []
    for name in ("ada", "a.da", "ada+1", "ada+2", "Ada+3", "ada+4"):
        body = {"email": f"{name}@example.com", "password": "correct horse battery staple"}
        statuses.append((await client.post("/api/v1/users", json=body)).status_code)
    assert statuses == [201] * 5 + [429]
    assert len(mailbox.messages) == 5


async def test_owner_always_has_a_good_link_when_a_stranger_asks_for_resets_all_day(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox, database: Database
) -> None:
    waits, retry_after = 0, 0
    while waits < 15:
        answer = await ask_for_reset(client, user.email)
        retry_after = int(answer.headers.get("retry-after", 0))
        waits += retry_after > 0
        await wait(database, retry_after)
    # Half the life of a link: one is in the mailbox, or the next may be sent.
    assert retry_after == 900
    await ask_for_reset(client, user.email)
    assert (await reset(client, token_in_last_mail(mailbox))).status_code == 204


async def test_owner_logs_in_after_a_reset_when_a_stranger_has_blocked_the_account(
    client: AsyncClient, user: SignedInUser, mailbox: Mailbox, database: Database
) -> None:
    async with database.transaction() as session:
        await session.execute(delete(ThrottleBucket))  # no address is known
    statuses = [(await log_in(client, "wrong")).status_code for _ in range(21)]
    assert statuses[-1] == 429
    await ask_for_reset(client, user.email)
    assert (await reset(client, token_in_last_mail(mailbox))).status_code == 204
    assert (await log_in(client, NEW_PASSWORD)).status_code == 200


async def test_mail_is_sent_later_and_with_a_new_link_when_the_mail_server_is_away(
    app: FastAPI, state: State, user: SignedInUser, mailbox: Mailbox
) -> None:
    mailbox.refuses = True
    async with connect(app, state) as client:
        assert (await ask_for_reset(client, user.email)).status_code == 202
        with pytest.raises(MailError, match="550"):
            await run_jobs(state["database"], state["settings"])
        mailbox.refuses = False
        async with state["database"].transaction() as session:
            await session.execute(update(Job).values(status="todo"))
        await run_jobs(state["database"], state["settings"])
        assert (await reset(client, token_in_last_mail(mailbox))).status_code == 204


async def test_job_of_a_mail_holds_no_token(
    app: FastAPI, state: State, user: SignedInUser, database: Database
) -> None:
    async with connect(app, state) as client:
        await ask_for_reset(client, user.email)
    assert await database.read_all(select(Job.args)) == [({"email": user.email},)]


async def test_registration_is_refused_when_signing_up_is_closed(
    app: FastAPI, settings: Settings, database: Database
) -> None:
    closed = build_state(settings.model_copy(update={"sign_up_open": False}), database)
    body = {"email": "ada@example.com", "password": "correct horse battery staple"}
    async with connect(app, closed) as client:
        assert (await client.post("/api/v1/users", json=body)).status_code == 403
    await sign_up(closed, "ada@example.com")
