"""TERM to gunicorn's master with a request, an event stream and a WebSocket open."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.servers import wait_until
from tests.system.processes import ENDED, count_lines, master_pid
from tests.system.sql import column
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all, service_name
from tests.system.trial_routes import SLEEPS, STREAMS
from tests.system.websocket import TEXT, WebSocket

pytestmark = pytest.mark.alone

# SERVER_GRACEFUL_TIMEOUT_SECONDS
LADDER_SECONDS = 30
CONNECTIONS = (
    "SELECT application_name FROM pg_stat_activity WHERE starts_with(application_name, $1)"
)


@dataclass
class Departure:
    """`readiness` has the statuses of new connections, 0 for a refused one."""

    request: httpx2.Response
    stream: httpx2.Response
    websocket_code: int
    readiness: list[int]
    seconds: float
    database_connections: list[str]
    log: str


@pytest.fixture(scope="module")
def departure(trial_project: Path, uv: str) -> Iterator[Departure]:
    with serve_all(trial_project, uv) as stack:
        yield watch_departure(stack)


def watch_departure(stack: Stack) -> Departure:
    name = service_name(stack)
    with ThreadPoolExecutor() as pool, closing(open_websocket(stack)) as websocket:
        closed = pool.submit(websocket.wait_for_close)
        stream = pool.submit(get, stack, "/api/v1/events/trial")
        request = pool.submit(get, stack, "/trial/sleep?seconds=3")
        wait_until(lambda: count_lines(stack, SLEEPS) + count_lines(stack, STREAMS) == 2)
        began = time.monotonic()
        os.kill(master_pid(stack), signal.SIGTERM)
        readiness = list(probe(stack))
        # `make serve` ends when gunicorn does, and says how.
        stack.process.wait(LADDER_SECONDS + 10)
        seconds = time.monotonic() - began
    connections = column(stack, CONNECTIONS, f"{name}:")
    log = stack.log.read_text()
    return Departure(
        request.result(), stream.result(), closed.result(), readiness, seconds, connections, log
    )


def open_websocket(stack: Stack) -> WebSocket:
    websocket = WebSocket(stack.http_port, "/api/v1/events/ws")
    websocket.send(b"hello")
    assert websocket.receive() == (TEXT, b"hello")
    return websocket


def get(stack: Stack, path: str) -> httpx2.Response:
    return httpx2.get(f"{stack.url}{path}", timeout=LADDER_SECONDS + 10)


def probe(stack: Stack) -> Iterator[int]:
    """As a load balancer does: a new connection each time, until there is no listener."""
    url = f"http://127.0.0.1:{stack.environment['APP_PORT']}/readyz"
    status = -1
    while status:
        status = 0
        with suppress(httpx2.ConnectError):
            status = httpx2.get(url, timeout=10).status_code
        yield status


def test_request_in_flight_is_answered_when_the_service_stops(departure: Departure) -> None:
    assert departure.request.status_code == 200


def test_stream_ends_with_its_last_event_when_the_service_stops(departure: Departure) -> None:
    assert departure.stream.text == "data: first\n\ndata: last\n\n"


def test_websocket_is_closed_with_service_restart_when_the_service_stops(
    departure: Departure,
) -> None:
    assert departure.websocket_code == 1012


def test_readiness_turns_before_the_listener_goes_when_the_service_stops(
    departure: Departure,
) -> None:
    assert departure.readiness[-2:] == [503, 0]
    assert departure.readiness.count(503) > 3


def test_service_ends_cleanly_within_the_ladder_when_it_stops(
    departure: Departure, record_property: Record
) -> None:
    record_property("TERM with a 3 s request open: seconds to the end", round(departure.seconds, 1))
    assert departure.log.count(ENDED) == 2
    assert "gunicorn ended unexpectedly with exit code 0." in departure.log
    assert departure.seconds < LADDER_SECONDS
    assert departure.database_connections == []
    assert "Traceback" not in departure.log
