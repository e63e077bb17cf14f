"""150 logins at once, as dear as in production: bounded refusals, and everybody else is served."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from httpx2 import AsyncClient, Client, Limits
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import Database
from app.settings import Settings
from tests.conftest import PASSWORD
from tests.servers import running_service

pytestmark = pytest.mark.system

LOGINS = 150
EMAIL = "ada@example.com"
LIVEZ_P99_SECONDS_MAX = 0.1
# Of app/settings.py; the other tests take the cheapest.
DEFAULTS = {
    "PASSWORD_MEMORY_COST_KIB": "65536",
    "PASSWORD_TIME_COST": "3",
    "PASSWORD_PARALLELISM": "4",
}


@pytest.fixture(scope="module")
def service_url(settings: Settings, engine: AsyncEngine) -> Iterator[str]:
    with running_service(settings, **DEFAULTS) as url:
        yield url


def probe(url: str, stop: Event) -> list[float]:
    """How long /livez took, every 10 ms, from a connection of its own."""
    seconds = []
    with Client(base_url=url) as client:
        while not stop.wait(0.01):
            started_at = time.perf_counter()
            assert client.get("/livez").status_code == 200
            seconds.append(time.perf_counter() - started_at)
    return seconds


async def log_in_together(url: str) -> Counter[int]:
    form = {"username": EMAIL, "password": PASSWORD}
    limits = Limits(max_connections=LOGINS)
    async with AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await client.post("/api/v1/users", json={"email": EMAIL, "password": PASSWORD})
        race = (client.post("/api/v1/auth/token", data=form) for _ in range(LOGINS))
        answers = await asyncio.gather(*race)
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    return Counter(answer.status_code for answer in answers)


async def measure(url: str) -> tuple[Counter[int], float]:
    """The answers to the logins, and the 99th percentile of /livez meanwhile."""
    stop = Event()
    with ThreadPoolExecutor(1) as thread:
        probed = thread.submit(probe, url, stop)
        try:
            statuses = await log_in_together(url)
        finally:
            stop.set()
    return statuses, statistics.quantiles(probed.result(), n=100)[-1]


async def test_service_answers_when_many_log_in_at_once(
    service_url: str,
    committing_database: Database,  # empties the tables afterwards
    record_property: Callable[[str, object], None],
) -> None:
    measured: list[float] = []
    # Noise spoils a measurement; an event loop that is blocked is so in all of them.
    while len(measured) < 3 and (not measured or measured[-1] >= LIVEZ_P99_SECONDS_MAX):
        statuses, p99_seconds = await measure(service_url)
        assert set(statuses) == {200, 503}
        # As many as may wait, at least; each of them ended, so the queue is empty again.
        assert statuses[200] >= 22
        measured.append(p99_seconds)
    record_property("p99 of /livez during 150 logins, ms", round(measured[-1] * 1000, 1))
    assert measured[-1] < LIVEZ_P99_SECONDS_MAX, measured
