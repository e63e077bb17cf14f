"""Reload, rolling restart and recycling under load lose nothing; a kill only what it cuts off."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import (
    ENDED,
    STARTED,
    count_connections,
    count_lines,
    reload_all,
    replace_worker,
    wait_until,
    worker_pids,
)
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all, under_load

RECYCLINGS = 4


@pytest.fixture(scope="module")
def stack(trial_project: Path, uv: str) -> Iterator[Stack]:
    with serve_all(trial_project, uv) as running:
        yield running


@contextmanager
def setting(stack: Stack, line: str) -> Iterator[None]:
    """In `.env`, which a reload reads again."""
    file = stack.project / ".env"
    former = file.read_text()
    file.write_text(f"{former}\n{line}\n")
    try:
        yield
    finally:
        file.write_text(former)


def test_reload_loses_nothing_when_under_load(stack: Stack, record_property: Record) -> None:
    with under_load(stack, record_property, "2 x HUP") as outcome:
        for _ in range(2):
            reload_all(stack)
    assert not outcome.failures
    assert count_lines(stack, "Handling signal: hup") == 2


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
