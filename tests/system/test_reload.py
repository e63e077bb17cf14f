"""Reload, rolling restart and recycling under load lose nothing; a kill only what it cuts off."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.servers import wait_until
from tests.system.processes import (
    ENDED,
    LEAVING,
    STARTED,
    count_connections,
    count_lines,
    master_pid,
    reload_all,
    replace_worker,
    worker_pids,
)
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all, setting, under_load
from tests.system.trial_routes import SLEEPS

pytestmark = pytest.mark.alone

RECYCLINGS = 4


@pytest.fixture(scope="module")
def stack(trial_project: Path, uv: str) -> Iterator[Stack]:
    # Two connections for each worker, so that a third generation would be over the budget.
    with serve_all(trial_project, uv, DATABASE_CONNECTION_BUDGET="8") as running:
        yield running


def assert_successors_came_first(log: str) -> None:
    """At each departure, more had started than had left."""
    ahead = 0
    for mark in re.findall(f"{STARTED}|{LEAVING}", log):
        ahead += 1 if mark == STARTED else -1
        assert ahead >= 0, "a worker left before its successor served"


@contextmanager
def held_workers(stack: Stack, seconds: int) -> Iterator[None]:
    """Requests that keep those who leave for as long; the chance that one has none is 1 %."""
    url = f"http://127.0.0.1:{stack.environment['APP_PORT']}/trial/sleep?seconds={seconds}"
    begun = count_lines(stack, SLEEPS)
    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(httpx2.get, url, timeout=60) for _ in range(8)]
        wait_until(lambda: count_lines(stack, SLEEPS) == begun + 8)
        yield
    assert [request.result().status_code for request in held] == [200] * 8


def test_reload_loses_nothing_when_under_load(stack: Stack, record_property: Record) -> None:
    start, started = len(stack.log.read_text()), count_lines(stack, STARTED)
    with under_load(stack, record_property, "2 x HUP") as outcome, held_workers(stack, 12):
        os.kill(master_pid(stack), signal.SIGHUP)
        wait_until(lambda: count_lines(stack, STARTED) == started + 2)
        # The second one while the first generation still leaves.
        reload_all(stack)
    assert not outcome.failures
    assert_successors_came_first(stack.log.read_text()[start:])


def test_rolling_restart_loses_nothing_when_under_load(
    stack: Stack, record_property: Record
) -> None:
    with under_load(stack, record_property, "TERM to each worker in turn") as outcome:
        for pid in worker_pids(stack):
            with held_workers(stack, 2):
                replace_worker(stack, pid, signal.SIGTERM)
    assert not outcome.failures


def test_kill_loses_only_what_the_worker_held_when_under_load(
    stack: Stack, record_property: Record
) -> None:
    started = count_lines(stack, STARTED)
    with under_load(stack, record_property, "kill -9 of a worker") as outcome:
        victim = min(worker_pids(stack))
        # Stopped first: it accepts nothing between the count and its end.
        os.kill(victim, signal.SIGSTOP)
        held = count_connections(victim, int(stack.environment["APP_PORT"]))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: count_lines(stack, STARTED) == started + 1)
        answers = outcome.answers
        wait_until(lambda: outcome.answers > answers + 250)
    record_property(
        "kill -9: lost, of the connections it held", f"{outcome.failures.total()}/{held}"
    )
    # nginx has one request at a time on each.
    assert outcome.failures.total() <= held
    assert set(outcome.failures) <= {"GET 502", "POST 502"}
    assert len(worker_pids(stack) - {victim}) == 2


def test_recycling_loses_nothing_when_under_load(stack: Stack, record_property: Record) -> None:
    with setting(stack, "SERVER_MAX_REQUESTS=1000"):
        reload_all(stack)
        start, ended = len(stack.log.read_text()), count_lines(stack, ENDED)
        with under_load(stack, record_property, f"{RECYCLINGS} recyclings") as outcome:
            wait_until(lambda: count_lines(stack, ENDED) >= ended + RECYCLINGS)
    assert not outcome.failures
    assert_successors_came_first(stack.log.read_text()[start:])
