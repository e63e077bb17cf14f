"""Reload, rolling restart and recycling under load lose nothing; a kill only what it cuts off."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import (
    ENDED,
    LEAVING,
    STARTED,
    count_connections,
    count_lines,
    master_pid,
    reload_all,
    replace_worker,
    wait_until,
    worker_pids,
)
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all, setting, under_load

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


def test_reload_loses_nothing_when_under_load(stack: Stack, record_property: Record) -> None:
    start = len(stack.log.read_text())
    with under_load(stack, record_property, "3 x HUP") as outcome:
        reload_all(stack)
        # The last one while the first generation still leaves.
        started = count_lines(stack, STARTED)
        os.kill(master_pid(stack), signal.SIGHUP)
        wait_until(lambda: count_lines(stack, STARTED) == started + 2)
        reload_all(stack)
    assert not outcome.failures
    assert_successors_came_first(stack.log.read_text()[start:])


def test_rolling_restart_loses_nothing_when_under_load(
    stack: Stack, record_property: Record
) -> None:
    with under_load(stack, record_property, "TERM to each worker in turn") as outcome:
        for pid in worker_pids(stack):
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
    # Enough for a successor to start meanwhile: recycled faster than that, both would be away.
    with setting(stack, "SERVER_MAX_REQUESTS=1000"):
        reload_all(stack)
        ended = count_lines(stack, ENDED)
        with under_load(stack, record_property, f"{RECYCLINGS} recyclings") as outcome:
            wait_until(lambda: count_lines(stack, ENDED) >= ended + RECYCLINGS)
    assert not outcome.failures
