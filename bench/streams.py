"""Measures events: their delay, what they cost a write, and streams beside ordinary requests.

Through nginx, with the limits of a machine that is one client; writes go straight to gunicorn.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import cycle
from multiprocessing import get_context

from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from bench import start
from bench.compare import authorization_of, create_item, get
from development import bench, load, nginx, postgres
from development.load import Load, Outcome

WORKERS = 2
PATH = "/api/v1/events"
RATES = (10, 100)
# Of each kind, at each rate.
FOLLOWERS = 10
WRITERS = 16
OPENED_AT_ONCE = 50
# One address may sign up 50 users.
STREAMS_PER_USER = 50
READS_PER_SECOND = 200
# As the service tells a browser, so that not all come back at once.
RETRY_SECONDS = (1, 5)
RESTART = 1012
# What opening and closing costs the service is not what is measured.
SETTLE_SECONDS = 2

Message = Mapping[str, object]
Messages = AsyncGenerator[Message, None]
Drive = Callable[[Load], Awaitable[Outcome]]


def create_app_without_events() -> FastAPI:
    """As the service is, but its items are written without their events."""
    from sqlalchemy import select  # noqa: PLC0415

    from app.events import repository  # noqa: PLC0415

    repository.with_event = lambda changed, _kind: select(changed)
    from app.main import create_app  # noqa: PLC0415 (the statements are made now)

    return create_app()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench --streams", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--count", type=int, default=2000, help="half of each kind")
    parser.add_argument("--rounds", type=int, default=3, help="of the requests and the writes")
    options = parser.parse_args()
    # A stream is a file here and in each process that we start.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environment = {
        "DATABASE_URL": postgres.start(),
        "WEB_CONCURRENCY": str(WORKERS),
        "STREAMS_PER_WORKER_MAX": str(options.count + 100),
        "STREAMS_PER_USER_MAX": "100",
        # Logins are not what is measured.
        "PASSWORD_MEMORY_COST_KIB": "8",
        "PASSWORD_TIME_COST": "1",
        "PASSWORD_PARALLELISM": "1",
        "LOGIN_ATTEMPTS_PER_ADDRESS": "100000",
        "METRICS_PORT": "0",
    }
    # Requests come from a process of their own: this one is busy with the streams.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        with bench.serving(environment, nginx.find_binary()) as (port, master):
            asyncio.run(measure_streams(port, master, pool, options))
        measure_writes(environment, options.rounds, options.seconds)


async def measure_streams(
    port: int, master: int, pool: ProcessPoolExecutor, options: argparse.Namespace
) -> None:
    drive = partial(asyncio.get_running_loop().run_in_executor, pool, bench.drive)
    first, *_ = authorizations = [
        log_in(port, number) for number in range(1 + options.count // STREAMS_PER_USER)
    ]
    reads = Load(port, get("/api/v1/users/me", first), 16, options.seconds)
    await drive(replace(reads, seconds=min(1, options.seconds)))
    for rate in RATES:
        writes = Load(port, create_item(first), WRITERS, options.seconds, rate, b"201")
        await measure_delay(writes, drive)
    reads = replace(reads, rate=READS_PER_SECOND)
    streams = Streams(port, authorizations, options.count)
    await measure_reads(streams, reads, drive, master, options.rounds)
    await measure_reload(streams, reads, drive, master)


def log_in(port: int, number: int) -> str:
    user = {**bench.USER, "email": f"bench-{number}@example.com"}
    return authorization_of(bench.authenticated_read(port, user))


async def measure_delay(writes: Load, drive: Drive) -> None:
    """From the writing of an event to its arrival at each of the followers, in one clock."""
    delays_ms: list[float] = []

    def take(message: Message) -> None:
        created = datetime.fromisoformat(str(message["created_at"])).timestamp()
        delays_ms.append((time.time() - created) * 1000)

    authorization = authorization_of(writes.request)
    streams = Streams(writes.port, [authorization], 2 * FOLLOWERS, take)
    async with streams.running():
        outcome = await drive(writes)
        await asyncio.sleep(1)
    expected = len(outcome.latencies_ms) * streams.count
    print(
        f"{writes.rate} changes/s, {streams.count} followers: delay"
        f" p50 {load.percentile(delays_ms, 0.5):.0f} ms,"
        f" p99 {load.percentile(delays_ms, 0.99):.0f} ms; {len(delays_ms)} of {expected} arrived"
    )


async def measure_reads(
    streams: "Streams", reads: Load, drive: Drive, master: int, rounds: int
) -> None:
    """Without streams and beside them, in turns."""
    nginx_pid = int((bench.FOLDER / "nginx" / "nginx.pid").read_text())
    pids = {"workers": master, "nginx": nginx_pid}
    p99_ms: dict[str, list[float]] = {"without": [], "beside": []}
    kib: dict[str, float] = {}
    for _ in range(rounds):
        empty = {name: memory_mib(pid) for name, pid in pids.items()}
        p99_ms["without"].append(await p99_of(reads, drive))
        async with streams.running():
            full = {name: memory_mib(pid) for name, pid in pids.items()}
            p99_ms["beside"].append(await p99_of(reads, drive))
        # Of the first round: what is freed is kept by the processes, for the next streams.
        kib = kib or {name: (full[name] - empty[name]) * 1024 / streams.count for name in pids}
    without, beside = (statistics.median(values) for values in p99_ms.values())
    memory = ", ".join(f"{value:.0f} KiB in the {name}" for name, value in kib.items())
    rounded = {name: [round(value, 1) for value in values] for name, values in p99_ms.items()}
    print(
        f"{streams.count} streams: {memory} each (PSS), {streams.ends.total()} lost;"
        f" p99 of {reads.rate} reads/s {beside:.1f} ms beside them, {without:.1f} ms without,"
        f" {beside / without:.2f} times, rounds {rounded}"
    )


async def measure_reload(streams: "Streams", reads: Load, drive: Drive, master: int) -> None:
    """All streams are told to come back, and do; who asks meanwhile is answered."""
    ready = Load(reads.port, get("/readyz"), 2, 1, rate=20)
    async with streams.running():
        began = time.monotonic()
        os.kill(master, signal.SIGHUP)
        back = asyncio.create_task(streams.wait_until_back())
        probes, requests = await asyncio.gather(
            drive_until(back, load.run, ready), drive_until(back, drive, replace(reads, seconds=1))
        )
        seconds = await back - began
    told, others = streams.ends.pop(RESTART, 0), dict(streams.ends + streams.refused)
    # Who comes back early may be told again, by the other worker that leaves.
    print(
        f"reload: {streams.count} streams were told {told} times to come back, and all open again"
        f" after {seconds:.1f} s, otherwise ended or refused: {others or 'none'};"
        f" /readyz {len(probes.latencies_ms)} times, failed: {dict(probes.failures) or 'none'};"
        f" p99 of {reads.rate} reads/s {load.percentile(requests.latencies_ms, 0.99):.1f} ms,"
        f" failed: {dict(requests.failures) or 'none'}"
    )


async def p99_of(reads: Load, drive: Drive) -> float:
    outcome = await drive(reads)
    if outcome.failures:
        raise SystemExit(f"reads: {dict(outcome.failures)}")
    return load.percentile(outcome.latencies_ms, 0.99)


async def drive_until(over: "asyncio.Task[float]", drive: Drive, one: Load) -> Outcome:
    total = Outcome()
    while not over.done():
        outcome = await drive(one)
        total.latencies_ms += outcome.latencies_ms
        total.failures += outcome.failures
    return total


def measure_writes(environment: Mapping[str, str], rounds: int, seconds: float) -> None:
    """In turns: the same service, and one whose statements leave the events out."""
    rates: dict[str, list[float]] = {"with events": [], "without": []}
    apps = {"with events": (), "without": ("streams:create_app_without_events()",)}
    for _ in range(rounds):
        for name, app in apps.items():
            with bench.serving(environment, None, *app) as (port, _master):
                authorization = authorization_of(bench.authenticated_read(port))
                writes = Load(port, create_item(authorization), WRITERS, seconds, status=b"201")
                bench.drive(replace(writes, seconds=min(1, seconds)))
                outcome = bench.drive(writes)
                if outcome.failures:
                    raise SystemExit(f"{name}: {dict(outcome.failures)}")
                rates[name].append(outcome.requests_per_second)
    for name, values in rates.items():
        listed = ", ".join(f"{one:.0f}" for one in values)
        print(f"POST /items {name}: {listed} a second, {WRITERS} writers, one owner")


@dataclass
class Streams:
    """Clients that follow events, half of each kind; who is cut off comes back."""

    port: int
    authorizations: Sequence[str]
    count: int
    take: Callable[[Message], None] = lambda _message: None
    open: int = 0
    # How those that were open ended, by code, and what became of attempts to open one.
    ends: Counter[object] = field(default_factory=Counter)
    refused: Counter[object] = field(default_factory=Counter)
    moved: set[object] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        door = asyncio.Semaphore(OPENED_AT_ONCE)
        kinds = (self._server_sent, self._websocket)
        tasks = [
            asyncio.create_task(self._follow(partial(kinds[number % 2], authorization), door))
            for number, authorization in zip(range(self.count), cycle(self.authorizations))
        ]
        try:
            await self._wait_until(lambda: self.open == self.count)
            await asyncio.sleep(SETTLE_SECONDS)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(SETTLE_SECONDS)

    async def wait_until_back(self) -> float:
        """The moment when each has ended and all are open again."""
        await self._wait_until(lambda: len(self.moved) == self.open == self.count)
        return time.monotonic()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _follow(self, kind: Callable[[], Messages], door: asyncio.Semaphore) -> None:
        while True:
            try:
                async with aclosing(kind()) as messages:
                    async with door:
                        if (await anext(messages))["type"] != "ready":
                            raise ConnectionRefusedError
                    await self._read(messages)
            except (OSError, EOFError, StopAsyncIteration, WebSocketException) as error:
                self.refused[type(error).__name__] += 1
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))

    async def _read(self, messages: Messages) -> None:
        self.open += 1
        end: object = "cut off"
        try:
            async for message in messages:
                if message["type"] == "event":
                    self.take(message)
                end = message.get("code", end)
        finally:
            self.open -= 1
        self.ends[end] += 1
        self.moved.add(asyncio.current_task())

    async def _server_sent(self, authorization: str) -> Messages:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            # To HTTP/1.0 nginx sends no chunks, so lines stay whole.
            writer.write(get(PATH, authorization).replace(b"HTTP/1.1", b"HTTP/1.0"))
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))
        finally:
            writer.close()

    async def _websocket(self, authorization: str) -> Messages:
        name, value = authorization.strip().split(": ")
        url = f"ws://127.0.0.1:{self.port}{PATH}/ws"
        async with connect(url, additional_headers={name: value}, compression=None) as websocket:
            with suppress(ConnectionClosed):
                async for text in websocket:
                    yield json.loads(text)
            yield {"type": "end", "code": websocket.close_code}


def memory_mib(master: int) -> float:
    return sum(start.memory_mib(pid, "Pss") for pid in bench.children_of(master))


if __name__ == "__main__":
    main()
