"""Real gunicorn, real signals: what a worker does when it starts, stalls and leaves."""

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.edge import exchange
from tests.server.conftest import Start, launch
from tests.servers import DEADLINE_SECONDS, Gunicorn, listens, wait_until

pytestmark = pytest.mark.system


HANDSHAKE = (
    b"GET /flood/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass
class Departure:
    """What clients saw of a worker that was terminated while they were connected."""

    request: httpx2.Response
    stream: httpx2.Response
    websocket_code: int
    readiness: list[int | None]
    exit_code: int
    log: str


@pytest.fixture(scope="module")
def departure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Departure]:
    with launch(tmp_path_factory.mktemp("departure")) as gunicorn:
        gunicorn.wait_until_ready()
        yield watch_departure(gunicorn)


def watch_departure(gunicorn: Gunicorn) -> Departure:
    with connect(f"ws://127.0.0.1:{gunicorn.port}/ws") as websocket:
        websocket.recv(timeout=DEADLINE_SECONDS)
        stream = gunicorn.begin("/stream")
        request = gunicorn.begin("/sleep?seconds=3")
        gunicorn.process.send_signal(signal.SIGTERM)
        readiness: list[int | None] = []
        while not readiness or readiness[-1]:
            readiness.append(gunicorn.readiness())
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=DEADLINE_SECONDS)
    code = closed.value.rcvd.code if closed.value.rcvd else 0
    exit_code = gunicorn.process.wait(DEADLINE_SECONDS)
    return Departure(request.result(), stream.result(), code, readiness, exit_code, gunicorn.log())


def test_request_in_flight_is_answered_when_terminated(departure: Departure) -> None:
    assert departure.request.status_code == 200
    assert departure.request.headers["connection"] == "close"


def test_stream_ends_when_terminated(departure: Departure) -> None:
    assert departure.stream.text == "first\nlast\n"


def test_websocket_is_closed_with_service_restart_when_terminated(departure: Departure) -> None:
    assert departure.websocket_code == 1012


def test_handshake_is_finished_when_terminated(start: Start) -> None:
    gunicorn = start()
    with socket.create_connection(("127.0.0.1", gunicorn.port), DEADLINE_SECONDS) as peer:
        peer.sendall(HANDSHAKE.replace(b"/flood/", b"/late/"))
        wait_until(lambda: "handshake begins" in gunicorn.log())
        gunicorn.process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: peer.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\x88\x02" + (1012).to_bytes(2))


def test_peer_that_never_reads_holds_no_departure_up(start: Start) -> None:
    gunicorn = start()
    # The smallest buffer: what the kernel takes is not what is tested.
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", gunicorn.port))
        peer.sendall(HANDSHAKE)
        wait_until(lambda: "buffers full" in gunicorn.log())
        # The time to drain is 28 s.
        assert gunicorn.stop(within_seconds=15) == 0


def test_readiness_turns_before_the_listener_closes_when_terminated(departure: Departure) -> None:
    assert departure.readiness[-2:] == [503, None]


def test_exit_hooks_run_when_terminated(departure: Departure) -> None:
    assert departure.exit_code == 0
    ends = [line.split()[0] for line in departure.log.splitlines() if line[-1:].isdigit()]
    assert ends[-3:] == ["lifespan", "worker_exit", "atexit"]


def test_requests_are_cancelled_when_the_time_to_drain_is_over(start: Start) -> None:
    gunicorn = start(SERVER_GRACEFUL_TIMEOUT_SECONDS="4", SERVER_LAME_DUCK_SECONDS="1")
    answer = gunicorn.begin("/sleep?seconds=60")
    assert gunicorn.stop() == 0
    assert answer.result().status_code == 500
    assert "lifespan closed" in gunicorn.log()


@pytest.mark.parametrize("numbers", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
def test_stop_is_quick_when_asked_to(start: Start, numbers: list[signal.Signals]) -> None:
    gunicorn = start()
    gunicorn.begin("/sleep?seconds=60")
    for number in numbers:
        gunicorn.process.send_signal(number)
        wait_until(lambda: "Leaving with" in gunicorn.log())
    assert gunicorn.process.wait(DEADLINE_SECONDS) == 0
    assert "lifespan closed" in gunicorn.log()


def test_request_in_flight_is_answered_when_interrupted(start: Start) -> None:
    gunicorn = start()
    answer = gunicorn.begin("/sleep?seconds=3")
    assert gunicorn.stop(signal.SIGINT) == 0
    assert answer.result().is_success


def test_stop_is_quick_when_the_worker_still_starts(start: Start) -> None:
    gunicorn = start(wait=False, BOOT_SECONDS="60")
    wait_until(lambda: "Waiting for application startup" in gunicorn.log())
    assert gunicorn.stop() == 0
    assert "Traceback" not in gunicorn.log()


def test_stacks_are_written_when_the_loop_stalls(start: Start) -> None:
    gunicorn = start(SERVER_TIMEOUT_SECONDS="2")
    stalled = gunicorn.worker_pid()
    with pytest.raises(httpx2.RemoteProtocolError):
        gunicorn.get("/stall?seconds=60")
    assert gunicorn.worker_pid() != stalled
    threads, tasks = gunicorn.log().split("tasks of the stalled event loop")
    assert "in stall" in threads
    assert "Worker._serve()" in tasks


def test_worker_lives_when_an_await_is_longer_than_the_stall_limit(start: Start) -> None:
    gunicorn = start(SERVER_TIMEOUT_SECONDS="2")
    pid = gunicorn.worker_pid()
    assert gunicorn.get("/sleep?seconds=4").text == str(pid)


def test_worker_lives_when_it_drains_longer_than_the_stall_limit(start: Start) -> None:
    gunicorn = start(SERVER_TIMEOUT_SECONDS="2")
    answer = gunicorn.begin("/sleep?seconds=4")
    os.kill(gunicorn.worker_pid(), signal.SIGTERM)
    assert answer.result().is_success
    assert "WORKER TIMEOUT" not in gunicorn.log()


@pytest.mark.parametrize(
    "request_head",
    ["GET /pid HTTP/1.1\r\nContent-Length: 2", "POST /ws HTTP/1.1\r\nContent-Length: 2"],
)
def test_upgrade_with_a_body_is_answered_at_once(start: Start, request_head: str) -> None:
    assert exchange(start().port, upgrade(request_head, "{}")).startswith("HTTP/1.1 400 ")


def test_request_is_answered_when_another_connection_cannot_be_closed(start: Start) -> None:
    gunicorn = start(UVICORN_WS="websockets-sansio")  # it never answers a handshake with a body
    with socket.create_connection(("127.0.0.1", gunicorn.port)) as pending:
        pending.sendall(upgrade("GET /ws HTTP/1.1\r\nContent-Length: 2", "{}").encode())
        answer = gunicorn.begin("/sleep?seconds=3")
        assert gunicorn.stop() == 0
    assert answer.result().is_success
    assert "A connection could not be closed" in gunicorn.log()


def upgrade(head: str, body: str) -> str:
    headers = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket"
    return f"{head}\r\n{headers}\r\n\r\n{body}"


def test_server_serves_an_app_that_is_not_ours(start: Start) -> None:
    gunicorn = start("tests.server.bare_app:app")
    assert gunicorn.get("/pid").text == "server"
    assert gunicorn.stop() == 0


@pytest.mark.parametrize(("asked", "lines"), [("true", 1), ("false", 0), ("", 0)])
def test_access_lines_of_uvicorn_are_written_only_when_asked_for(
    start: Start, asked: str, lines: int
) -> None:
    gunicorn = start(UVICORN_ACCESS_LOG=asked)
    gunicorn.get("/sleep?seconds=0")
    assert gunicorn.stop() == 0
    assert gunicorn.log().count('"GET /sleep?seconds=0 HTTP/1.1" 200') == lines


@pytest.mark.parametrize("seconds", ["0", "60"])
def test_worker_leaves_when_the_master_was_killed(start: Start, seconds: str) -> None:
    gunicorn = start(wait=False, BOOT_SECONDS=seconds)
    text = "Waiting for application startup" if seconds == "60" else "startup complete"
    wait_until(lambda: text in gunicorn.log())
    gunicorn.process.kill()
    wait_until(lambda: not listens(gunicorn.port))
