"""Clients that follow events miss none and get none twice, whatever happens to the service."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.conftest import Bake
from tests.system.load import sign_up
from tests.system.pressure.parts import database, query, run_sql
from tests.system.processes import reload_all, replace_worker, worker_pids
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all

pytestmark = pytest.mark.alone

CLIENTS = 50
EVENTS = 5000
WRITERS = 8
# On a quiet machine it takes a minute.
WITHIN_SECONDS = 420
PATH = "/api/v1/events"
# Takes its number first and commits late; all other writers of the owner wait meanwhile.
LATE_COMMIT = """
    WITH head AS (UPDATE event_head SET seq = seq + 1 RETURNING owner_id, seq)
    INSERT INTO event (owner_id, seq, kind, subject_id)
    SELECT owner_id, seq, 'item.changed', gen_random_uuid() FROM head;
    SELECT pg_sleep(1)
"""
_LOST = (httpx2.HTTPError, OSError, EOFError, WebSocketException, TimeoutError)


@pytest.fixture(scope="module")
def stack(bake_once: Bake, uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("it finds gunicorn's workers in /proc")
    with serve_all(bake_once("events"), uv, STREAMS_PER_USER_MAX="100") as running:
        yield running


@dataclass
class Client:
    """Follows, is cut off by its own whim, and resumes with the last id it has seen."""

    url: str
    token: str
    is_websocket: bool
    last_id: str = "0-0"
    seqs: list[int] = field(default_factory=list)
    connections: int = 0

    async def follow(self) -> None:
        while True:
            self.connections += 1
            whim = random.randint(20, 1500)  # noqa: S311
            with suppress(*_LOST):
                # Closed at once: a generator that is left alone keeps its socket.
                async with aclosing(self._messages()) as messages:
                    await read(messages, whim)
            await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311

    def _messages(self) -> AsyncGenerator[None, None]:
        return self._on_websocket() if self.is_websocket else self._server_sent()

    async def _on_websocket(self) -> AsyncGenerator[None, None]:
        url = f"{self.url.replace('http', 'ws', 1)}{PATH}/ws?last_event_id={self.last_id}"
        offered = ["v1", f"bearer.{self.token}"]
        async with connect(url, subprotocols=offered) as websocket:  # type: ignore[arg-type]
            async for text in websocket:
                self._take(json.loads(text))
                yield

    async def _server_sent(self) -> AsyncGenerator[None, None]:
        headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": self.last_id}
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=30) as client,
            client.stream("GET", PATH, headers=headers) as response,
        ):
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    self._take(json.loads(line.removeprefix("data: ")))
                    yield

    def _take(self, message: dict[str, object]) -> None:
        if message.get("type") == "event":
            self.last_id = str(message["id"])
            self.seqs.append(int(str(message["seq"])))


async def read(messages: AsyncGenerator[None, None], count: int) -> None:
    async for _ in messages:
        count -= 1
        if count == 0:
            return


@dataclass
class Writers:
    """Create items through nginx until there are enough; what fails is simply tried again."""

    url: str
    token: str
    created: int = 0

    async def write(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=40) as client:
            while self.created < EVENTS:
                with suppress(*_LOST):
                    answer = await client.post("/api/v1/items", json={"title": "Buy milk"})
                    self.created += answer.status_code == httpx2.codes.CREATED

    async def reach(self, share: float) -> None:
        while self.created < EVENTS * share:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def trouble(stack: Stack, writers: Writers) -> None:
    """A late commit, a worker killed, a reload, PostgreSQL restarted: each while others write."""
    await writers.reach(0.1)
    await asyncio.to_thread(run_sql, stack, LATE_COMMIT)
    await writers.reach(0.2)
    victim = min(worker_pids(stack))
    await asyncio.to_thread(replace_worker, stack, victim, signal.SIGKILL)
    await writers.reach(0.4)
    await asyncio.to_thread(reload_all, stack)
    await writers.reach(0.6)
    await asyncio.to_thread(database, stack, "stop")
    await asyncio.sleep(2)
    await asyncio.to_thread(database, stack, "start")


async def live_through(stack: Stack, token: str) -> tuple[list[Client], int]:
    clients = [Client(stack.url, token, number % 2 == 0) for number in range(CLIENTS)]
    writers = Writers(stack.url, token)
    followers = [asyncio.create_task(client.follow()) for client in clients]
    async with asyncio.timeout(WITHIN_SECONDS):
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(writers.write())
            group.create_task(trouble(stack, writers))
        written = query(stack, "SELECT max(seq) FROM event")
        while any(len(client.seqs) < written for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    for follower in followers:
        follower.cancel()
    await asyncio.wait(followers)
    return clients, written


def test_every_client_gets_every_event_once_and_in_order_in_all_troubles(
    stack: Stack, record_property: Record
) -> None:
    clients, written = asyncio.run(live_through(stack, sign_up(stack.url)))
    assert written >= EVENTS
    expected = list(range(1, written + 1))
    assert [client.seqs == expected for client in clients] == [True] * CLIENTS
    connections = sum(client.connections for client in clients)
    record_property("events", f"{written} to {CLIENTS} clients over {connections} connections")
