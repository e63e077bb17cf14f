"""Measures events: their delay, what they cost a write, and streams beside ordinary requests.

Straight to gunicorn: nginx's limits for one address would be what is measured.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from bench import start
from bench.compare import authorization_of, create_item, get
from development import bench, load, postgres
from development.load import Load

WORKERS = 2
PATH = "/api/v1/events"
RATES = (10, 100)
# Of each kind, at each rate.
FOLLOWERS = 10
WRITERS = 16
OPENED_AT_ONCE = 50
READS_PER_SECOND = 200

Take = Callable[[Mapping[str, object]], None]


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
    parser.add_argument("--rounds", type=int, default=3, help="of the writes")
    options = parser.parse_args()
    # A stream is a file here and there.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environment = {
        "DATABASE_URL": postgres.start(),
        "WEB_CONCURRENCY": str(WORKERS),
        "STREAMS_PER_WORKER_MAX": str(options.count + 100),
        "STREAMS_PER_USER_MAX": str(options.count + 100),
        "METRICS_PORT": "0",
    }
    with bench.serving(environment) as (port, master):
        authorization = authorization_of(bench.authenticated_read(port))
        for rate in RATES:
            asyncio.run(measure_delay(port, authorization, rate, options.seconds))
        asyncio.run(measure_streams(port, master, authorization, options.count, options.seconds))
    measure_writes(environment, options.rounds, options.seconds)


async def measure_delay(port: int, authorization: str, rate: int, seconds: float) -> None:
    """From the commit of a change to its arrival at each of the followers, in one clock."""
    delays_ms: list[float] = []

    def take(message: Mapping[str, object]) -> None:
        if message.get("type") == "event":
            created = datetime.fromisoformat(str(message["created_at"])).timestamp()
            delays_ms.append((time.time() - created) * 1000)

    async with asyncio.TaskGroup() as group:
        tasks = await open_streams(group, port, authorization, 2 * FOLLOWERS, take)
        outcome = await load.run(
            Load(port, create_item(authorization), WRITERS, seconds, rate, b"201")
        )
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
    expected = len(outcome.latencies_ms) * 2 * FOLLOWERS
    p50, p99 = (load.percentile(delays_ms, share) for share in (0.5, 0.99))
    print(
        f"{rate} changes/s, {2 * FOLLOWERS} followers: delay p50 {p50:.0f} ms, p99 {p99:.0f} ms;"
        f" {len(delays_ms)} of {expected} arrived"
    )


async def measure_streams(
    port: int, master: int, authorization: str, count: int, seconds: float
) -> None:
    """Without them, with them, and without them again."""
    reads = Load(port, get("/api/v1/users/me", authorization), 16, seconds, READS_PER_SECOND)
    before = load.percentile((await load.run(reads)).latencies_ms, 0.99)
    empty = memory_mib(master)
    async with asyncio.TaskGroup() as group:
        tasks = await open_streams(group, port, authorization, count, lambda _message: None)
        full = memory_mib(master)
        beside = load.percentile((await load.run(reads)).latencies_ms, 0.99)
        lost = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
    await asyncio.sleep(2)
    after = load.percentile((await load.run(reads)).latencies_ms, 0.99)
    print(
        f"{count} streams: {(full - empty) * 1024 / count:.0f} KiB each in the workers (PSS),"
        f" {lost} lost; p99 of {READS_PER_SECOND} reads/s {beside:.1f} ms,"
        f" {before:.1f} ms before and {after:.1f} ms after them"
    )


def measure_writes(environment: Mapping[str, str], rounds: int, seconds: float) -> None:
    """In turns: the same service, and one whose statements leave the events out."""
    rates: dict[str, list[float]] = {"with events": [], "without": []}
    apps = {"with events": (), "without": ("streams:create_app_without_events()",)}
    for _ in range(rounds):
        for name, app in apps.items():
            with bench.serving(environment, None, *app) as (port, _master):
                authorization = authorization_of(bench.authenticated_read(port))
                outcome = bench.drive(
                    Load(port, create_item(authorization), WRITERS, seconds, status=b"201")
                )
                if outcome.failures:
                    raise SystemExit(f"{name}: {dict(outcome.failures)}")
                rates[name].append(outcome.requests_per_second)
    for name, values in rates.items():
        print(f"POST /items {name}: {', '.join(f'{one:.0f}' for one in values)} a second")


async def open_streams(
    group: asyncio.TaskGroup, port: int, authorization: str, count: int, take: Take
) -> Sequence[asyncio.Task[None]]:
    """Half of each kind; all are open when this returns."""
    limit, opened = asyncio.Semaphore(OPENED_AT_ONCE), asyncio.Event()
    left = count

    def ready() -> None:
        nonlocal left
        left -= 1
        if not left:
            opened.set()

    kinds = (follow_sse, follow_ws)
    tasks = [
        group.create_task(kinds[number % 2](port, authorization, limit, ready, take))
        for number in range(count)
    ]
    async with asyncio.timeout(120):
        await opened.wait()
    return tasks


async def follow_sse(
    port: int, authorization: str, limit: asyncio.Semaphore, ready: Callable[[], None], take: Take
) -> None:
    async with limit:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get(PATH, authorization))
        await reader.readuntil(b'"ready"')
        ready()
    try:
        while True:
            line = await reader.readline()
            if not line:
                return
            if line.startswith(b"data: "):
                take(json.loads(line[6:]))
    finally:
        writer.close()


async def follow_ws(
    port: int, authorization: str, limit: asyncio.Semaphore, ready: Callable[[], None], take: Take
) -> None:
    name, value = authorization.strip().split(": ")
    async with limit:
        websocket: ClientConnection = await connect(
            f"ws://127.0.0.1:{port}{PATH}/ws", additional_headers={name: value}, compression=None
        )
        await websocket.recv()
        ready()
    async with websocket:
        async for text in websocket:
            take(json.loads(text))


def memory_mib(master: int) -> float:
    return sum(start.memory_mib(pid, "Pss") for pid in bench.children_of(master))


if __name__ == "__main__":
    main()
