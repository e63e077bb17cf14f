"""What servers do when something happens to them: a trial for each, started anew, two workers.

`make bench-conformance`; each server has the options that its manual names for the purpose.
"""

import argparse
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench.interleave import describe, serving
from bench.variants import TRIALS, Comparison, Variant
from development import bench, load
from development.load import Load, Outcome

WATCHED_SECONDS = 20
RACES = 200
GET = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Server:
    """What a trial does something to."""

    port: int
    pid: int
    breaks: Path

    def ask(self, path: str = "/readyz", within_seconds: float = 2) -> str | None:
        """The body over a connection of its own; None for anything but 200 in time."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=within_seconds)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == 200 else None  # noqa: PLR2004

    def workers(self) -> set[str]:
        return {pid for _ in range(30) if (pid := self.ask())}

    def is_gone(self) -> bool:
        return is_gone(self.pid)

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def seconds_until(self, happened: Callable[[], bool]) -> float | None:
        began = time.monotonic()
        while time.monotonic() < began + WATCHED_SECONDS:
            if happened():
                return time.monotonic() - began
            time.sleep(0.05)
        return None


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@contextmanager
def under_load(server: Server, seconds: float) -> Iterator[list[Outcome]]:
    """200 requests a second on 16 kept connections, due at fixed times; the outcome afterwards."""
    outcomes: list[Outcome] = []
    wanted = Load(server.port, GET, 16, seconds, rate=200)
    thread = threading.Thread(target=lambda: outcomes.append(bench.drive(wanted)))
    thread.start()
    time.sleep(1)
    try:
        yield outcomes
    finally:
        thread.join()


def lost(outcome: Outcome) -> str:
    failed = outcome.failures.total()
    slowest = load.percentile(outcome.latencies_ms, 1) / 1000
    return f"{failed} of {len(outcome.latencies_ms) + failed} lost, longest wait {slowest:.1f} s"


def reload(server: Server) -> str:
    before = server.workers()
    with under_load(server, 8) as outcomes:
        server.signal(signal.SIGHUP)
    if server.is_gone():
        return "HUP ends it"
    replaced = "" if not before & server.workers() else ", the workers stayed"
    return lost(outcomes[0]) + replaced


def drain(server: Server) -> str:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.ask, "/slow", WATCHED_SECONDS)
        time.sleep(0.5)
        server.signal(signal.SIGTERM)
        ended = server.seconds_until(server.is_gone)
        said = "answered" if answer.result() else "cut"
    return f"{said}, gone after {ended:.1f} s" if ended else f"{said}, still there after 20 s"


def idle(server: Server) -> str:
    seconds = closed_after(server)
    return f"{seconds:.0f} s" if seconds else f"longer than {WATCHED_SECONDS} s"


def closed_after(server: Server) -> float | None:
    """What an idle connection is kept for; None if it is longer than we watch."""
    with used_connection(server) as client:
        began = time.monotonic()
        try:
            while client.recv(65536):
                pass
        except TimeoutError:
            return None
        return time.monotonic() - began


def used_connection(server: Server) -> socket.socket:
    """It has had one answer."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=WATCHED_SECONDS)
    client.sendall(GET)
    client.recv(65536)
    return client


def raced(server: Server) -> str:
    """Connections are used again at the moment at which the server closes them, idle as they are.

    Like nginx, a client looks before it sends; what it cannot see is that the server has decided.
    """
    seconds = closed_after(server)
    if seconds is None:
        return f"not closed in {WATCHED_SECONDS} s"
    used = []
    with ExitStack() as stack:
        for number in range(RACES):
            client = stack.enter_context(used_connection(server))
            # From 10 ms before to 10 ms after it.
            used.append((client, time.monotonic() + seconds + (number / RACES - 0.5) / 50))
            time.sleep(0.002)
        said = Counter(ask_again(client, due) for client, due in used)
    return f"{said['lost']} of {RACES} lost, {said['closed']} seen to be closed"


def ask_again(client: socket.socket, due: float) -> str:
    time.sleep(max(0, due - time.monotonic()))
    if select.select([client], [], [], 0)[0]:
        return "closed"
    try:
        client.sendall(GET)
        return "answered" if client.recv(65536) else "lost"
    except OSError:
        return "lost"


def refused(server: Server) -> str:
    """As a limit does it: the 413 is there before the body, which goes on to come."""
    body = bytes(10_000_000)
    head = f"POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        sent, answer = "all of the body taken", b""
        try:
            client.sendall(head.encode() + body)
        except TimeoutError:
            sent = "the body not taken"
        except OSError:
            sent = "the connection cut"
        with suppress(OSError):
            answer = client.recv(65536)
    said = "413 read" if answer.startswith(b"HTTP/1.1 413 ") else "no answer to read"
    return f"{said}, {sent}"


def stream(server: Server) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=WATCHED_SECONDS) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if b"data: tick" not in client.recv(65536) + client.recv(65536):
            return "no stream"
        server.signal(signal.SIGTERM)
        ended = server.seconds_until(server.is_gone)
    return f"gone after {ended:.1f} s" if ended else "still there after 20 s"


def websocket(server: Server) -> str:
    try:
        with connect(f"ws://127.0.0.1:{server.port}/ws", open_timeout=5) as client:
            client.send("hello")
            if client.recv(timeout=5) != "hello":
                return "no echo"
            server.signal(signal.SIGTERM)
            client.recv(timeout=WATCHED_SECONDS)
    except ConnectionClosed as closed:
        return f"closed with {closed.rcvd.code}" if closed.rcvd else "cut without a close"
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__}"
    return "open after 20 s"


def killed(server: Server) -> str:
    with under_load(server, 6) as outcomes:
        victim = server.ask()
        if victim:
            os.kill(int(victim), signal.SIGKILL)
    workers = server.workers() - {victim}
    return f"{lost(outcomes[0])}, {len(workers)} workers afterwards"


def stalled(server: Server) -> str:
    before = server.workers()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.ask, "/stall", 1)
        time.sleep(0.5)
        failed = sum(server.ask() is None for _ in range(20))
        noticed = server.seconds_until(lambda: any(is_gone(int(pid)) for pid in before))
    said = f"replaced after {noticed:.0f} s" if noticed else "not noticed in 20 s"
    return f"{failed} of 20 others unanswered, {said}"


def broken(server: Server) -> str:
    server.breaks.touch()
    server.signal(signal.SIGHUP)
    time.sleep(6)
    answered = sum(server.ask() is not None for _ in range(20))
    return f"{answered} of 20 answered" + (", the master is gone" if server.is_gone() else "")


# The question of each column, and who asks it.
ASKED = {
    "HUP under load": reload,
    "HUP with code that cannot start": broken,
    "TERM with a request of 2 s": drain,
    "TERM with an open event stream": stream,
    "TERM with an open WebSocket": websocket,
    "a worker is killed under load": killed,
    "a worker's event loop stands still": stalled,
    "an idle connection is kept for": idle,
    "requests as it closes idle connections": raced,
    "413 before a body of 10 MB": refused,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-conformance", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("python", help="of the comparisons' environment")
    parser.add_argument("--servers", nargs="*", default=[one.name for one in TRIALS])
    parser.add_argument("--trials", nargs="*", default=list(ASKED))
    options = parser.parse_args()
    servers = [one for one in TRIALS if one.name in options.servers]
    results = {
        server.name: {
            trial: put_to_trial(server, trial, options.python) for trial in options.trials
        }
        for server in servers
    }
    packages = ("gunicorn", "uvicorn", "uvicorn-worker", "granian", "hypercorn", "websockets")
    asked = Comparison("Who does what when something happens", TRIALS, "", packages)
    document = describe(asked, options.python) | {"results": results}
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def put_to_trial(variant: Variant, trial: str, python: str) -> str:
    print(f"{variant.name}: {trial}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        breaks = Path(folder) / "broken"
        environment = {**variant.environment, "BREAKS_WHEN_THERE": str(breaks)}
        started = replace(variant, environment=environment)
        with serving(started, python, "postgresql://nobody@127.0.0.1:1/none") as (port, [pid]):
            try:
                said = ASKED[trial](Server(port, pid, breaks))
            finally:
                # It may have left workers behind, or hang: that is part of what is tried.
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
    print(f"    {said}", file=sys.stderr, flush=True)
    return said


if __name__ == "__main__":
    main()
