"""500 clients that are slow on purpose: nginx keeps them from the workers and from the others."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.system.load import Plan, Target
from tests.system.pressure.answers import (
    Answer,
    Connection,
    ask_on_schedule,
    get,
    percentile_ms,
    statuses,
)
from tests.system.pressure.parts import shipped_limits
from tests.system.stack import Stack

pytestmark = pytest.mark.alone

Record = Callable[[str, object], None]

PHASE_SECONDS = 3
# Each nginx worker keeps 32 idle ones; the load below has 17 more.
UPSTREAM_CONNECTIONS_MAX = 120
# Half a megabyte: more than the kernel takes from nginx for a client that does not read.
LARGE_PATH = "/admin/statics/css/tabler.min.css"


class SlowClient:
    def __init__(self, port: int, first: bytes, then: bytes = b"", source: str = "127.0.0.1"):
        self._port, self._source = port, source
        self._first, self._then = first, then
        self.refusal = b""

    async def run(self, connected: Callable[[], object]) -> None:
        """Sends a bit a second and reads nothing, until it is cancelled or refused."""
        client = socket.socket()
        with client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.bind((self._source, 0))
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", self._port))
            await loop.sock_sendall(client, self._first)
            connected()
            while self._then:
                try:
                    async with asyncio.timeout(1):
                        self.refusal = await loop.sock_recv(client, 4096)
                    return
                except TimeoutError:
                    await loop.sock_sendall(client, self._then)
            await asyncio.Event().wait()


def slow_clients(target: Target) -> list[SlowClient]:
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    return [
        *(SlowClient(target.port, head, b"a: b\r\n") for _ in range(200)),
        *(SlowClient(target.port, slow_body(target), b" ") for _ in range(200)),
        *(SlowClient(target.port, get(LARGE_PATH)) for _ in range(100)),
    ]


def slow_body(target: Target) -> bytes:
    lines = ["POST /api/v1/items HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {target.token}", "Content-Length: 60000", "", ""]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def connected(clients: list[SlowClient]) -> AsyncIterator[None]:
    arrived = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run(arrived.release)) for client in clients]
        for _ in clients:
            await arrived.acquire()
        yield
        for task in tasks:
            task.cancel()


def connections_to(port: int) -> int:
    """Established ones, counted at the server's end."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_others_are_served_when_500_clients_are_slow(
    stack: Stack, target: Target, record_property: Record
) -> None:
    calm, pressed, connections = asyncio.run(_compare(stack, target))
    assert set(statuses([*calm, *pressed])) == {200, 201}
    assert max(connections) < UPSTREAM_CONNECTIONS_MAX
    for name, answers in (("without", calm), ("with", pressed)):
        figures = f"{percentile_ms(answers, 0.5)}/{percentile_ms(answers, 0.99)}"
        record_property(f"{name} 500 slow clients, p50/p99 ms at 200/s", figures)


async def _compare(stack: Stack, target: Target) -> tuple[list[Answer], list[Answer], list[int]]:
    calm: list[Answer] = []
    arriving: list[Answer] = []
    pressed: list[Answer] = []
    connections = []
    plan = Plan(PHASE_SECONDS, per_second=200)
    for _ in range(2):
        calm += await ask_on_schedule(target, plan)
        clients = slow_clients(target)
        async with connected(clients):
            # Half a megabyte for each reader goes through the workers first: not timed.
            arriving += await ask_on_schedule(target, Plan(1, per_second=200))
            pressed += await ask_on_schedule(target, plan)
            connections.append(connections_to(int(stack.environment["APP_PORT"])))
        assert not any(client.refusal for client in clients)
    assert set(statuses(arriving)) == {200, 201}
    return calm, pressed, connections


def test_one_address_has_only_100_connections_with_the_shipped_limits(
    stack: Stack, target: Target
) -> None:
    greedy = [SlowClient(target.port, slow_body(target), b" ", "127.0.0.2") for _ in range(500)]
    with shipped_limits(stack):
        others = asyncio.run(_ask_beside(greedy, target))
    refused = [client.refusal for client in greedy if client.refusal]
    assert len(refused) >= 400
    assert all(refusal.startswith(b"HTTP/1.1 429 ") for refusal in refused)
    assert set(statuses(others)) == {200}


async def _ask_beside(clients: list[SlowClient], target: Target) -> list[Answer]:
    """From another address, at less than its own limit, until the last refusal has arrived."""
    connection = Connection(target.port, "127.0.0.3")
    answers: list[Answer] = []
    async with connected(clients), asyncio.timeout(20):
        while len(answers) < 100 or sum(bool(client.refusal) for client in clients) < 400:
            answers.append(await connection.ask(target.request(1)))
            await asyncio.sleep(0.025)
    connection.close()
    return answers
