"""More than the service can do: it does what it can, and says 503 to the rest before long."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from statistics import median
from uuid import uuid4

import httpx2
import pytest

from tests.system.load import PASSWORD, Plan, Target
from tests.system.pressure.answers import (
    Answer,
    ask_at_once,
    ask_often,
    ask_on_schedule,
    assert_served_or_unavailable,
    percentile_ms,
    statuses,
)
from tests.system.pressure.parts import lock, nginx_folder
from tests.system.pressure.test_limits import login
from tests.system.stack import Stack

pytestmark = pytest.mark.alone

Record = Callable[[str, object], None]

# Around these, throughput is at its peak on two cores.
SATURATING_CONNECTIONS = (16, 32)
OVERLOAD_CONNECTIONS = 4 * max(SATURATING_CONNECTIONS)
# DATABASE_POOL_TIMEOUT_SECONDS and LOCK_TIMEOUT_SECONDS, and what a busy machine adds.
POOL_WAIT_SECONDS = 3
LOCK_TIMEOUT_SECONDS = 5
# A password takes 0.1 s of a core that others use as well, and 21 may wait before it.
REQUEST_DEADLINE_SECONDS = 25
SLACK_SECONDS = 4


def per_second(answers: list[Answer]) -> float:
    served = [answer for answer in answers if answer.status < 300]
    end = max(answer.sent + answer.seconds for answer in answers)
    return len(served) / (end - min(answer.sent for answer in answers))


def probe_ms(stack: Stack, probes: list[Answer], share: float) -> int:
    """By nginx's log: the load generator, which is busy itself, would add its own delay."""
    ids = {probe.headers["x-request-id"] for probe in probes}
    log = nginx_folder(stack) / "logs/access.log"
    lines = [json.loads(line) for line in log.read_text().splitlines() if "/livez" in line]
    seconds: list[float] = sorted(
        line["request_seconds"] for line in lines if line["request_id"] in ids
    )
    return round(seconds[int((len(seconds) - 1) * share)] * 1000)


async def beside_probes(
    target: Target, *loads: Coroutine[None, None, list[Answer]]
) -> tuple[list[Answer], ...]:
    """The answers of each load, and at last those of /livez meanwhile."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        probes = group.create_task(ask_often(target.port, "/livez", over, pause=0.02))
        tasks = [group.create_task(load) for load in loads]
        await asyncio.wait(tasks)
        over.set()
    return *(task.result() for task in tasks), probes.result()


def test_throughput_stays_when_there_are_four_times_too_many_connections(
    stack: Stack, target: Target, record_property: Record
) -> None:
    rates, load, probes = asyncio.run(_overload(target))
    peak = max(rates[connections] for connections in SATURATING_CONNECTIONS)
    record_property("overload, answers/s by connections", rates)
    record_property("overload, share of the peak", round(rates[OVERLOAD_CONNECTIONS] / peak, 2))
    record_property("overload, p50/p99 ms", [percentile_ms(load, p) for p in (0.5, 0.99)])
    record_property("overload, /livez p99 ms", probe_ms(stack, probes, 0.99))
    assert_served_or_unavailable(load, POOL_WAIT_SECONDS + SLACK_SECONDS)
    assert set(statuses(probes)) == {200}
    assert asyncio.run(ask_at_once(target.port, 1, 0.1, target.request))[0].status < 300


async def _overload(target: Target) -> tuple[dict[int, int], list[Answer], list[Answer]]:
    """In turn, so that whatever else the machine does slows all of them down."""
    rates: dict[int, list[float]] = {}
    load: list[Answer] = []
    probes: list[Answer] = []
    await ask_at_once(target.port, 8, 1, target.request)
    for _ in range(3):
        for connections in (*SATURATING_CONNECTIONS, OVERLOAD_CONNECTIONS):
            asking = ask_at_once(target.port, connections, 1.2, target.request)
            answers, probed = await beside_probes(target, asking)
            rates.setdefault(connections, []).append(per_second(answers))
            if connections == OVERLOAD_CONNECTIONS:
                load, probes = load + answers, probes + probed
    return {number: round(median(found)) for number, found in rates.items()}, load, probes


def test_waiting_ends_with_503_when_the_database_is_stuck(
    stack: Stack, target: Target, record_property: Record
) -> None:
    with lock(stack, "item"):
        writes, reads, probes = asyncio.run(
            beside_probes(
                target,
                ask_at_once(target.port, 32, 6, lambda _: target.request(0)),
                ask_at_once(target.port, 32, 6, lambda _: target.request(1)),
            )
        )
    assert_served_or_unavailable(reads, POOL_WAIT_SECONDS + SLACK_SECONDS)
    # First the caller is read, then another slot is waited for.
    longest = 2 * POOL_WAIT_SECONDS + LOCK_TIMEOUT_SECONDS + SLACK_SECONDS
    assert_served_or_unavailable(writes, longest)
    assert set(statuses(writes)) == {503}
    assert set(statuses(probes)) == {200}
    record_property("while writes are stuck, longest read ms", percentile_ms(reads, 1))
    record_property("while writes are stuck, /livez p99 ms", probe_ms(stack, probes, 0.99))
    after = asyncio.run(ask_at_once(target.port, 8, 0.5, target.request))
    assert set(statuses(after)) == {200, 201}


def test_logins_starve_nobody_when_150_come_at_once(
    stack: Stack, target: Target, record_property: Record
) -> None:
    email = f"{uuid4().hex}@example.com"
    account = {"email": email, "password": PASSWORD}
    httpx2.post(f"{stack.url}/api/v1/users", json=account).raise_for_status()
    logins, others, probes = asyncio.run(
        beside_probes(
            target,
            ask_at_once(target.port, 150, 4, lambda _: login(email)),
            ask_on_schedule(target, Plan(4, per_second=100, connections=101)),
        )
    )
    assert set(statuses(logins)) == {200, 503}
    assert_served_or_unavailable(logins, REQUEST_DEADLINE_SECONDS)
    assert set(statuses(others)) == {200, 201}
    served = [answer for answer in logins if answer.status == 200]
    record_property("login flood, logins by status", dict(statuses(logins)))
    record_property("login flood, p99 ms of a login", percentile_ms(served, 0.99))
    figures = [percentile_ms(others, share) for share in (0.5, 0.99)]
    record_property("login flood, p50/p99 ms of others at 100/s", figures)
    record_property("login flood, /livez p99 ms", probe_ms(stack, probes, 0.99))
