"""PostgreSQL stops for ten seconds under load, while workers come and go."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import pytest

from tests.servers import HAPPENS_WITHIN_SECONDS, wait_until
from tests.system.load import Plan, Target
from tests.system.pressure.answers import (
    Answer,
    ask_at_once,
    ask_often,
    ask_on_schedule,
    assert_served_or_unavailable,
    get,
    statuses,
)
from tests.system.pressure.parts import database, query
from tests.system.processes import STARTED, children, count_lines, master_pid
from tests.system.stack import Stack

pytestmark = pytest.mark.alone

Record = Callable[[str, object], None]

ENOUGH = "a successor is asked for"
# Longer where two workers need more time to leave and to start.
OUTAGE_SECONDS = 10
LOAD_SECONDS_MAX = 120
# Of the order of timeouts: a wait for a slot (3 s) and a connect (5 s), and 2 s for busy machines.
ANSWERED_WITHIN_SECONDS = 10


@dataclass
class Story:
    """What happened and when; times of the monotonic clock."""

    master: int
    workers: set[int]
    stopped: float = 0
    started: float = 0
    workers_after: set[int] = field(default_factory=set)
    requests: list[Answer] = field(default_factory=list)
    livez: list[Answer] = field(default_factory=list)
    readyz: list[Answer] = field(default_factory=list)

    def during(self, answers: list[Answer]) -> list[Answer]:
        """Asked and answered while the database was away."""
        return [
            one
            for one in answers
            if self.stopped < one.sent and one.sent + one.seconds < self.started
        ]


@pytest.fixture(scope="module")
def story(frugal_stack: Stack, frugal_target: Target) -> Story:
    return asyncio.run(_live_through(frugal_stack, frugal_target))


async def _live_through(stack: Stack, target: Target) -> Story:
    master = master_pid(stack)
    story = Story(master, set(children(master)))
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        load = group.create_task(
            ask_on_schedule(target, Plan(LOAD_SECONDS_MAX, per_second=200), over)
        )
        livez = group.create_task(ask_often(target.port, "/livez", over, pause=0.1))
        readyz = group.create_task(ask_often(target.port, "/readyz", over, pause=0.1))
        await asyncio.sleep(2)
        await asyncio.to_thread(database, stack, "stop")
        story.stopped = monotonic()
        await _replace_both(stack, target.port, master)
        await asyncio.sleep(story.stopped + OUTAGE_SECONDS - monotonic())
        story.started = monotonic()
        story.workers_after = set(children(master))
        await asyncio.to_thread(database, stack, "start")
        await asyncio.sleep(4)
        over.set()
    story.requests, story.livez, story.readyz = load.result(), livez.result(), readyz.result()
    return story


async def _replace_both(stack: Stack, port: int, master: int) -> None:
    """One by a signal; then the other, which has had more requests, by SERVER_MAX_REQUESTS."""
    started, enough = count_lines(stack, STARTED), count_lines(stack, ENOUGH)
    os.kill(children(master)[0], signal.SIGTERM)
    await asyncio.to_thread(wait_for_line, stack, STARTED, started + 1)
    async with asyncio.timeout(HAPPENS_WITHIN_SECONDS):
        while count_lines(stack, ENOUGH) == enough:
            await ask_at_once(port, 8, 0.2, lambda _: get("/livez"))
    await asyncio.to_thread(wait_for_line, stack, STARTED, started + 2)
    await asyncio.to_thread(wait_until, lambda: len(children(master)) == 2, "two workers")


def wait_for_line(stack: Stack, text: str, count: int) -> None:
    wait_until(lambda: count_lines(stack, text) >= count, f"{count} x {text}")


def test_master_and_liveness_stay_when_the_database_stops(
    story: Story, frugal_stack: Stack
) -> None:
    assert master_pid(frugal_stack) == story.master
    assert set(statuses(story.livez)) == {200}


def test_readiness_goes_and_comes_back_with_the_database(story: Story) -> None:
    assert set(statuses(story.during(story.readyz))) == {503}
    assert story.readyz[0].status == story.readyz[-1].status == 200


def test_requests_get_503_problems_when_the_database_is_away(
    story: Story, record_property: Record
) -> None:
    assert_served_or_unavailable(story.requests, ANSWERED_WITHIN_SECONDS)
    away = story.during(story.requests)
    assert set(statuses(away)) == {503}
    slowest = max(answer.seconds for answer in away)
    record_property("slowest 503 of an outage, ms", round(slowest * 1000))


def test_requests_succeed_without_a_restart_when_the_database_is_back(
    story: Story, record_property: Record
) -> None:
    refusals = (one.sent + one.seconds for one in story.requests if one.status == 503)
    last_refusal = max(refusals)
    end = max(answer.sent for answer in story.requests)
    assert last_refusal < end - 1
    figure = round(last_refusal - story.started, 2)
    record_property("last 503 after `manage database start` began, s", figure)


def test_workers_are_replaced_when_the_database_is_away(story: Story, frugal_stack: Stack) -> None:
    # More than two while the load recycles one more.
    assert len(story.workers_after) >= 2
    assert story.workers_after.isdisjoint(story.workers)
    wait_until(lambda: len(children(story.master)) == 2, "two workers")
    sql = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert query(frugal_stack, sql) == 0
