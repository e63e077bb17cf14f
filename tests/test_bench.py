"""`make bench` of the template: the service and what it is compared with, in one run."""

import asyncio
import re
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable

import pytest

from bench import relay
from tests.conftest import REPOSITORY, own_environment

DELAY_SECONDS = 0.05
TARGETS = ("bare FastAPI route", "JWT, raw asyncpg", "GET /users/me", "POST /items")


def measured(uv: str, *options: str) -> str:
    command = [sys.executable, "-m", "bench", *options, "--rounds", "1", "--seconds", "0.3"]
    printed = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=own_environment() | {"UV": uv},
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    return printed.stdout


@pytest.mark.slow(1)
def test_no_event_and_no_stream_is_lost_while_they_are_measured(
    uv: str, require: Callable[[str], str]
) -> None:
    require("nginx")
    printed = measured(uv, "--streams", "--count", "100")
    arrived = re.findall(r"(\d+) of (\d+) arrived", printed)
    assert [int(one) == int(of) for one, of in arrived] == [True, True]
    assert ", 0 lost;" in printed
    assert re.search(r"^reload: 100 streams .* ended or refused: none;", printed, re.M)
    assert re.findall(r"POST /items (with events|without): \d+ a second", printed)


@pytest.mark.slow(1)
def test_cost_of_a_request_is_compared_with_a_bare_route(uv: str) -> None:
    printed = measured(uv)
    rows = {name: row for row in printed.splitlines() for name in TARGETS if name in row}
    assert set(rows) == set(TARGETS)
    assert rows["bare FastAPI route"].split()[5] == "1.00"
    assert rows["GET /users/me"].split()[-2] == "4.0"
    start = "from the start to the first answer"
    for figure in ("import of app.main", start, f"preload_app: {start}", "idle worker, PSS"):
        assert re.search(rf"^{figure}, \S+ +\d+\.\d+ .* (kept|exceeded)$", printed, re.M)
        assert f"- {figure}: " in printed


def test_statements_arrive_later_and_in_order_when_the_database_is_remote() -> None:
    sent = [b"%04d" % number for number in range(1000)]

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        while received := await reader.read(100):
            writer.write(received)
        writer.close()

    async def exchange() -> tuple[float, bytes]:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as database:
            port = database.sockets[0].getsockname()[1]
            async with await relay.listen(0, port, DELAY_SECONDS) as network:
                reader, writer = await asyncio.open_connection(*network.sockets[0].getsockname())
                began = time.perf_counter()
                for one in sent:
                    writer.write(one)
                    await asyncio.sleep(0)
                first = await reader.readexactly(4)
                waited = time.perf_counter() - began
                rest = await reader.readexactly(4 * (len(sent) - 1))
                writer.close()
                return waited, first + rest

    waited, received = asyncio.run(exchange())
    assert waited >= DELAY_SECONDS
    assert received == b"".join(sent)
