"""Guessing is slowed down, across workers, and locks nobody out for good."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import count, repeat
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import func, select, update

from app.accounts.email_links import mail_policy
from app.database import Database
from app.errors import TooManyRequestsError
from app.settings import Settings
from app.throttling.models import ThrottleBucket
from app.throttling.service import (
    Attempt,
    ThrottlePolicy,
    admit,
    login_policy,
    purge,
    record_success,
    uncount_attempt,
)

Door = Literal["login", "sign-up", "verify-email", "reset-password"]
OWNER = Attempt("login", "ada@example.com", "192.0.2.1")
PAGE = Path(__file__).parents[2].joinpath("docs", "guessing.md").read_text("utf-8")
STRANGER = Attempt("login", "ada@example.com", "198.51.100.9")


@pytest.fixture
def policy(settings: Settings) -> ThrottlePolicy:
    return replace(login_policy(settings), account_attempts=3, address_attempts=5)


async def guess(database: Database, policy: ThrottlePolicy, attempt: Attempt) -> int:
    """0 when the attempt may go on, else the seconds to wait."""
    try:
        await admit(database, policy, attempt)
    except TooManyRequestsError as error:
        return int((error.headers or {})["Retry-After"])
    return 0


async def wait(database: Database, seconds: float) -> None:
    """Moves what is stored into the past instead."""
    interval = timedelta(seconds=seconds)
    async with database.transaction() as session:
        await session.execute(
            update(ThrottleBucket).values(
                blocked_until=ThrottleBucket.blocked_until - interval,
                forget_at=ThrottleBucket.forget_at - interval,
            )
        )


async def test_delay_doubles_up_to_its_limit(database: Database, policy: ThrottlePolicy) -> None:
    elsewhere = [replace(OWNER, address=f"192.0.2.{number}") for number in range(20)]
    delays = []
    for attempt in elsewhere:
        if delay := await guess(database, policy, attempt):
            delays.append(delay)
            await wait(database, delay)
            await guess(database, policy, attempt)
    assert delays[:4] == [1, 2, 4, 8]
    assert max(delays) == policy.delay_seconds_max


async def test_attempts_are_forgotten_after_a_while(
    database: Database, policy: ThrottlePolicy
) -> None:
    for _ in range(3):
        await guess(database, policy, OWNER)
    await wait(database, policy.forget_after.total_seconds() + 1)
    assert [await guess(database, policy, OWNER) for _ in range(3)] == [0, 0, 0]


async def test_blocked_attempt_makes_the_delay_no_longer(
    database: Database, policy: ThrottlePolicy
) -> None:
    assert [await guess(database, policy, OWNER) for _ in range(9)] == [0, 0, 0] + [1] * 6


async def test_address_is_blocked_when_it_tries_many_accounts(
    database: Database, policy: ThrottlePolicy
) -> None:
    accounts = [replace(STRANGER, account=f"user{number}@example.com") for number in range(6)]
    assert [await guess(database, policy, attempt) for attempt in accounts] == [0] * 5 + [1]


async def test_blocked_address_does_not_count_against_an_account(
    database: Database, policy: ThrottlePolicy
) -> None:
    for number in range(5):
        await guess(database, policy, replace(STRANGER, account=f"user{number}@example.com"))
    for _ in range(5):
        assert await guess(database, policy, STRANGER)
    assert await guess(database, policy, OWNER) == 0


async def test_owner_logs_in_from_a_known_address_when_strangers_have_blocked_the_account(
    database: Database, policy: ThrottlePolicy
) -> None:
    await guess(database, policy, OWNER)
    await record_success(database, policy, OWNER)
    for number in range(9):
        await guess(database, policy, replace(STRANGER, address=f"198.51.100.{number}"))
    assert await guess(database, policy, STRANGER) > 0
    assert await guess(database, policy, OWNER) == 0


async def test_owner_logs_in_from_a_known_address_when_a_neighbour_has_blocked_it(
    database: Database, policy: ThrottlePolicy
) -> None:
    await guess(database, policy, OWNER)
    await record_success(database, policy, OWNER)
    neighbour = replace(OWNER, account="eve@example.com")
    for number in range(9):
        await guess(database, policy, replace(neighbour, account=f"user{number}@example.com"))
    assert await guess(database, policy, neighbour) > 0
    assert await guess(database, policy, OWNER) == 0
    # Known there is the owner, and nobody else.
    assert await guess(database, policy, replace(neighbour, purpose="reset-password")) == 0


async def test_guesses_at_one_door_count_at_no_other(
    database: Database, policy: ThrottlePolicy
) -> None:
    for _ in range(5):
        await guess(database, policy, STRANGER)
    assert await guess(database, policy, STRANGER) > 0
    for door in ("admin-login", "change-password", "reset-password", "verify-email"):
        assert await guess(database, policy, replace(STRANGER, purpose=door)) == 0


async def passed_in_a_day(
    database: Database, policy: ThrottlePolicy, attempts: Iterable[Attempt], pause: int = 0
) -> int:
    seconds, passed = 0, 0
    for attempt in attempts:
        delay = await guess(database, policy, attempt)
        passed += delay == 0
        if delay:
            await wait(database, max(delay, pause))
            seconds += max(delay, pause)
        if seconds >= 86_400:
            break
    return passed


@pytest.mark.parametrize(
    ("door", "passed"),
    [("login", 124), ("reset-password", 109), ("verify-email", 39), ("sign-up", 39)],
)
async def test_so_much_passes_in_a_day_as_the_page_of_security_tells(
    database: Database, settings: Settings, door: Door, passed: int
) -> None:
    policy = login_policy(settings) if door == "login" else mail_policy(settings, door)
    everywhere = repeat(Attempt(door, "ada@example.com", None))
    assert await passed_in_a_day(database, policy, everywhere) == passed
    assert re.search(rf"^\|.*\| {passed}\b", PAGE, re.MULTILINE)


async def test_an_address_guesses_so_often_in_a_day_as_the_page_of_security_tells(
    database: Database, settings: Settings
) -> None:
    attempts = (replace(STRANGER, account=f"user{number}@example.com") for number in count())
    assert await passed_in_a_day(database, login_policy(settings), attempts) == 304
    assert "| 304 |" in PAGE


async def test_waiting_until_all_is_forgotten_gives_a_stranger_fewer_guesses(
    database: Database, settings: Settings
) -> None:
    policy, everywhere = login_policy(settings), repeat(replace(STRANGER, address=None))
    assert await passed_in_a_day(database, policy, everywhere, pause=86_400) == 20


async def test_right_password_takes_the_attempt_back(
    database: Database, policy: ThrottlePolicy
) -> None:
    for _ in range(10):
        assert await guess(database, policy, OWNER) == 0
        await uncount_attempt(database, OWNER)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_customer_count_together(one: str, other: str, is_same: bool) -> None:
    keys = {replace(OWNER, address=address).keys["address_key"] for address in (one, other)}
    assert (len(keys) == 1) is is_same


async def test_account_alone_counts_when_the_address_is_not_known(
    database: Database, policy: ThrottlePolicy
) -> None:
    nowhere = replace(OWNER, address=None)
    assert [await guess(database, policy, nowhere) for _ in range(4)] == [0, 0, 0, 1]


async def test_no_more_than_the_limit_pass_when_all_come_at_once(
    committing_database: Database, policy: ThrottlePolicy
) -> None:
    waits = await asyncio.gather(*(guess(committing_database, policy, OWNER) for _ in range(30)))
    assert waits.count(0) == 3


async def test_nobody_is_blocked_when_many_log_in_at_once_with_the_right_password(
    committing_database: Database, policy: ThrottlePolicy
) -> None:
    roomy = replace(policy, account_attempts=50, address_attempts=50)

    async def log_in() -> int:
        seconds = await guess(committing_database, roomy, OWNER)
        await record_success(committing_database, roomy, OWNER)
        return seconds

    assert await asyncio.gather(*(log_in() for _ in range(40))) == [0] * 40


async def test_attempt_costs_one_statement(
    committing_database: Database, policy: ThrottlePolicy, statements: list[str]
) -> None:
    await guess(committing_database, policy, OWNER)
    await asyncio.sleep(0)  # the driver logs in the next turn of the loop
    assert len(statements) == 1


async def test_purge_deletes_what_is_forgotten_but_not_known_addresses(
    database: Database, policy: ThrottlePolicy
) -> None:
    await guess(database, policy, OWNER)
    await guess(database, policy, STRANGER)
    await record_success(database, policy, OWNER)
    await wait(database, policy.forget_after.total_seconds() + 1)
    await purge(database, 100)
    rows = await database.read_one(select(func.count()).select_from(ThrottleBucket))
    assert rows == (1,)
