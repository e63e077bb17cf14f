"""`make bench` of the template: the service and what it is compared with, in one run."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from development.ports import free_port
from tests.conftest import REPOSITORY, own_environment
from tests.servers import listens, wait_until

DELAY_SECONDS = 0.05
# More than the relay reads at once.
STATEMENTS = b"".join(b"%07d " % number for number in range(100_000))
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
    assert re.search(r"^reload: 100 streams .* all open again", printed, re.M)
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


@pytest.mark.slow(1)
def test_cost_of_logs_metrics_and_traces_is_compared_with_a_service_without_them(uv: str) -> None:
    rows = re.findall(r"^(.+?) +\d+ us +\(.+\) +(\d\.\d\d)", measured(uv, "--observability"), re.M)
    assert [name for name, _ in rows] == ["without any", "logs, metrics, ids", "and 10 % traced"]
    assert rows[0][1] == "1.00"


def test_statements_arrive_later_and_whole_when_the_database_is_remote() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as database,
        relaying_to(database) as port,
        socket.create_connection(("127.0.0.1", port)) as service,
    ):
        began = time.monotonic()
        service.sendall(STATEMENTS)
        session, _ = database.accept()
        with session, session.makefile("rb") as received:
            first = received.read(1)
            assert time.monotonic() - began >= DELAY_SECONDS
            assert first + received.read(len(STATEMENTS) - 1) == STATEMENTS


@contextmanager
def relaying_to(database: socket.socket) -> Iterator[int]:
    port, script = free_port(), REPOSITORY / "bench/relay.py"
    numbers = map(str, (port, database.getsockname()[1], DELAY_SECONDS))
    with subprocess.Popen([sys.executable, str(script), *numbers]) as process:
        try:
            wait_until(lambda: listens(port))
            # Asked whether it listens, it has asked the database.
            database.accept()[0].close()
            yield port
        finally:
            process.terminate()
