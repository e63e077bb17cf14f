"""A trial: something happens to the service while requests come steadily through nginx."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx2

from tests.servers import wait_until
from tests.system.load import Outcome, Plan, Target, run_load, sign_up
from tests.system.processes import STARTED, count_lines
from tests.system.sql import Watched, column, planned_connections, watched_connections
from tests.system.stack import Stack, serve

Record = Callable[[str, object], None]

# Each trial ends the load when what it is about has happened.
LOAD_SECONDS_MAX = 180
_TITLES = "SELECT title FROM item WHERE owner_id = $1::text::uuid"


@contextmanager
def serve_all(project: Path, uv: str, **settings: str) -> Iterator[Stack]:
    """Ready is who answers; here both workers are."""
    with serve(project, uv, **settings) as stack:
        wait_until(lambda: count_lines(stack, STARTED) == 2)
        yield stack


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


@contextmanager
def under_load(stack: Stack, record: Record, name: str) -> Iterator[Outcome]:
    """Every trial checks that nothing was stored twice or lost, and the connection budget."""
    target = Target(stack.http_port, sign_up(stack.url))
    with watched_connections(stack, service_name(stack)) as watched, load(target) as outcome:
        yield outcome
    record(name, f"{outcome}; at most {watched.most} connections to the database")
    assert_created_once(stack, target, outcome)
    assert_in_budget(stack, watched)


@contextmanager
def load(target: Target) -> Iterator[Outcome]:
    """In a thread: what happens meanwhile, once answers come, is written in plain sequence."""
    outcome, plan = Outcome(), Plan(LOAD_SECONDS_MAX)
    thread = Thread(target=lambda: asyncio.run(run_load(target, plan, outcome)).answers)
    thread.start()
    try:
        wait_until(lambda: outcome.answers > 250)
        yield outcome
    finally:
        outcome.is_enough = True
        thread.join()


def assert_created_once(stack: Stack, target: Target, outcome: Outcome) -> None:
    headers = {"Authorization": f"Bearer {target.token}"}
    user = httpx2.get(f"{stack.url}/api/v1/users/me", headers=headers).json()
    stored = Counter(column(stack, _TITLES, user["id"]))
    answered = {f"item {number}" for number in outcome.created}
    assert max(stored.values()) == 1
    assert len(answered) == len(outcome.created)
    assert answered <= stored.keys()
    # A POST that was cut off may have been carried out.
    assert len(stored) - len(answered) <= outcome.failures.total()


def assert_in_budget(stack: Stack, watched: Watched) -> None:
    planned = planned_connections(stack)
    assert watched.samples > 20
    assert 0 < watched.most <= planned["connections"] <= planned["connection_budget"]


def service_name(stack: Stack) -> str:
    return str(httpx2.get(f"{stack.url}/version").json()["name"])
