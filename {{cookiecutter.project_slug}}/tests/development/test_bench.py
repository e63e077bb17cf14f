"""`make bench`: what its load generator measures, and what it recommends."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.settings import Settings
from development import bench, bench_report, load
from development.bench import Choice, Measured
from development.load import Load
from tests.servers import find_binary, service_environment

ANSWER = b"HTTP/1.1 %s OK\r\nContent-Length: 2\r\n\r\n{}"
STALL_SECONDS = 0.3


@asynccontextmanager
async def answering(stalls: Callable[[int], bool], status: bytes = b"200") -> AsyncIterator[int]:
    """The port of a server that stops the world at some of its requests, as a busy loop would."""
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.readuntil(b"\r\n\r\n"):
            count += 1
            if stalls(count):
                await asyncio.sleep(STALL_SECONDS)
            writer.write(ANSWER % status)

    async def answer_until_closed(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await answer(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(answer_until_closed, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def load_of(port: int, rate: float | None) -> Load:
    return Load(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", connections=1, seconds=0.5, rate=rate)


async def test_stall_is_in_the_latency_of_all_that_were_due_meanwhile() -> None:
    async with answering(lambda count: count == 10) as port:
        outcome = await load.run(load_of(port, rate=100))
    assert len(outcome.latencies_ms) == 50
    # One every 10 ms was due in those 300 ms; a generator that waits would have one slow answer.
    assert sum(latency > 50 for latency in outcome.latencies_ms) >= 20


async def test_closed_loop_sends_as_fast_as_it_is_answered() -> None:
    async with answering(lambda count: count == 10) as port:
        outcome = await load.run(load_of(port, rate=None))
    assert sum(latency > STALL_SECONDS * 1000 for latency in outcome.latencies_ms) >= 1
    # In the 0.2 s in which the server did not stand still.
    assert len(outcome.latencies_ms) > 25


async def test_answer_is_a_failure_when_its_status_is_not_200() -> None:
    async with answering(lambda _count: False, b"503") as port:
        outcome = await load.run(load_of(port, rate=50))
    assert outcome.failures == {"503": 25}


async def test_request_is_a_failure_when_nobody_listens() -> None:
    async with answering(lambda _count: False) as port:
        pass
    outcome = await load.run(load_of(port, rate=50))
    assert outcome.failures == {"ConnectionRefusedError": 25}


def measured(workers: int, pool: int, rate: float, p99_ms: float, spin_ms: float = 10) -> Measured:
    return Measured(Choice(workers, pool, 64), rate, 300, p99_ms / 2, p99_ms, {}, 1, spin_ms)


def test_fewest_connections_are_recommended_when_tails_are_alike() -> None:
    rounds = [measured(2, 2, 990, 52), measured(2, 10, 1000, 50), measured(5, 10, 1000, 400)]
    advice = bench_report.advice(bench_report.summarise(rounds), rounds)
    assert advice.startswith("WEB_CONCURRENCY=2 DATABASE_POOL_SIZE=2")


def test_short_tail_is_not_recommended_when_it_costs_throughput() -> None:
    rounds = [measured(1, 1, 500, 20), measured(2, 2, 1000, 60)]
    assert bench_report.choose(bench_report.summarise(rounds)).choice.workers == 2


def test_noise_is_said_before_anything_else() -> None:
    rounds = [measured(1, 1, 500, 20), measured(2, 2, 1000, 60, spin_ms=30)]
    advice = bench_report.advice(bench_report.summarise(rounds), rounds)
    assert advice.startswith("The machine is too noisy to tell")


@pytest.mark.system
@pytest.mark.usefixtures("engine")
async def test_bench_measures_this_service_through_nginx(settings: Settings) -> None:
    find_binary("nginx")
    small = ["--workers", "1", "--pool-sizes", "1", "--connections", "2", "--rounds", "1"]
    command = [sys.executable, "-m", "development.bench", *small, "--seconds", "0.5"]
    environment = {**os.environ, **service_environment(settings)}
    printed = await asyncio.to_thread(
        subprocess.run, command, cwd=bench.ROOT, env=environment, capture_output=True, text=True
    )
    assert printed.returncode == 0, printed.stderr
    assert "WEB_CONCURRENCY=1 DATABASE_POOL_SIZE=1" in printed.stdout
    document = json.loads((bench.FOLDER / "bench.json").read_text())
    assert document["rounds"][0]["requests_per_second"] > 0
    assert (bench.FOLDER / "bench.svg").read_text().startswith("<svg")
