"""Faults of a running service: what is done to it, and what its clients may see of that."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from tests.servers import wait_until
from tests.system.pressure.parts import lock, nginx_folder, nginx_master, occupied, run_sql
from tests.system.processes import STARTED, children, count_lines, master_pid, worker_pids
from tests.system.stack import Stack
from tests.system.trial import setting

# Longer than the wait for a connection to the database (3 s), shorter than any other timeout.
HELD_SECONDS = 4
BOOTS = "Booting worker"

NOTHING: frozenset[str] = frozenset()
# What the process that ended had in hand, and what nginx sent to a closing connection.
# The answer of a killed worker may be half sent.
UNFINISHED = frozenset(
    {"GET 502", "POST 502", "GET IncompleteReadError", "POST IncompleteReadError"}
)
UNAVAILABLE = frozenset({"GET 503", "POST 503"})
WRITES_UNAVAILABLE = frozenset({"POST 503"})
# The start of TLS, no text at all, a version of the future.
NO_HTTP = (b"\x16\x03\x01\x02\x00\x01", b"\0" * 9_000, b"GET / HTTP/9.9\r\n\r\n")
CUT = frozenset(
    f"{method} {error}"
    for method in ("GET", "POST")
    for error in ("IncompleteReadError", "ConnectionResetError", "BrokenPipeError")
)


@dataclass(frozen=True)
class Fault:
    name: str
    happens: Callable[[Stack], object]
    # Anything else than an answer of 2xx that a client may see.
    seen: frozenset[str] = NOTHING


def to_master(numbers: Iterable[signal.Signals], stack: Stack) -> None:
    for number in numbers:
        os.kill(master_pid(stack), number)
        time.sleep(0.2)


def to_worker(number: signal.Signals, stack: Stack) -> None:
    os.kill(min(worker_pids(stack)), number)


def to_workers(number: signal.Signals, stack: Stack) -> None:
    for pid in worker_pids(stack):
        os.kill(pid, number)


def pause(find: Callable[[Stack], Iterable[int]], stack: Stack) -> None:
    pids = list(find(stack))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(HELD_SECONDS)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def in_worker(code: str, stack: Stack) -> int:
    """Runs in a request; 0 when there is no answer."""
    url = f"http://127.0.0.1:{stack.environment['APP_PORT']}/trial/run"
    with suppress(httpx2.HTTPError):
        return httpx2.post(url, content=code, timeout=30).status_code
    return 0


def starting_workers(stack: Stack) -> set[int]:
    """Of a reload, which has begun when this returns."""
    old, booting = worker_pids(stack), count_lines(stack, BOOTS)
    os.kill(master_pid(stack), signal.SIGHUP)
    wait_until(lambda: count_lines(stack, BOOTS) >= booting + 2, "the reload")
    return worker_pids(stack) - old


def kill_a_starting_worker(stack: Stack) -> None:
    os.kill(min(starting_workers(stack)), signal.SIGKILL)


def kill_an_old_worker_in_a_reload(stack: Stack) -> None:
    old = min(worker_pids(stack))
    starting_workers(stack)
    os.kill(old, signal.SIGKILL)


def one_worker_only(stack: Stack) -> None:
    to_master([signal.SIGTTOU] * 5, stack)
    wait_until(lambda: len(worker_pids(stack)) == 1)
    to_master([signal.SIGTTIN], stack)


def three_workers(stack: Stack) -> None:
    started = count_lines(stack, STARTED)
    to_master([signal.SIGTTIN], stack)
    wait_until(lambda: count_lines(stack, STARTED) > started)
    to_master([signal.SIGTTOU], stack)


def reload_with(line: str, stack: Stack) -> None:
    with setting(stack, line):
        os.kill(master_pid(stack), signal.SIGHUP)
        time.sleep(HELD_SECONDS)
    os.kill(master_pid(stack), signal.SIGHUP)


def reload_without(path: str, stack: Stack) -> None:
    """As a release that has been half copied."""
    file = stack.project / path
    hidden = file.with_name(f"{file.name}.hidden")
    file.rename(hidden)
    os.kill(master_pid(stack), signal.SIGHUP)
    time.sleep(HELD_SECONDS)
    hidden.rename(file)
    os.kill(master_pid(stack), signal.SIGHUP)


def few_files(stack: Stack) -> None:
    """A worker may open no file and take no connection more."""
    pid = min(worker_pids(stack))
    few = (
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, few)
    time.sleep(HELD_SECONDS)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def little_memory(stack: Stack) -> None:
    """What a worker asks for beyond is refused to it."""
    pid = min(worker_pids(stack))
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    unlimited = resource.RLIM_INFINITY
    limit = pages * resource.getpagesize() + 2**26
    before = resource.prlimit(pid, resource.RLIMIT_AS, (limit, unlimited))
    for _ in range(4):
        in_worker("bytearray(2**28)", stack)
    resource.prlimit(pid, resource.RLIMIT_AS, before)


def busy_cores(_stack: Stack) -> None:
    hogs = [subprocess.Popen(["sha256sum", "/dev/zero"]) for _ in range(2 * (os.cpu_count() or 1))]
    time.sleep(HELD_SECONDS)
    for hog in hogs:
        hog.kill()
        hog.wait()


def to_nginx(number: signal.Signals, stack: Stack) -> None:
    os.kill(nginx_master(stack), number)


def kill_worker_of_nginx(stack: Stack) -> None:
    os.kill(children(nginx_master(stack))[0], signal.SIGKILL)


def break_nginx(stack: Stack) -> None:
    file = nginx_folder(stack) / "site/limits.conf"
    text = file.read_text()
    file.write_text(f"{text}\nno_such_directive on;\n")
    to_nginx(signal.SIGHUP, stack)
    wait_until(lambda: "no_such_directive" in (nginx_folder(stack) / "logs/error.log").read_text())
    file.write_text(text)


def reload_both(stack: Stack) -> None:
    to_master([signal.SIGHUP], stack)
    to_nginx(signal.SIGHUP, stack)


def workers_of_nginx(stack: Stack) -> Iterable[int]:
    return children(nginx_master(stack))


def postgres(stack: Stack) -> list[int]:
    """The postmaster and all of its processes."""
    master = (stack.project / ".local/postgres/data/postmaster.pid").read_text().split()[0]
    return [int(master), *children(int(master))]


def backend(stack: Stack) -> int:
    """One that serves a connection of the service."""
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in postgres(stack)[1:]}
    return next(pid for pid, title in titles.items() if b"127.0.0.1" in title)


def kill_a_backend(stack: Stack) -> None:
    """PostgreSQL ends all sessions then and recovers, as after a crash."""
    os.kill(backend(stack), signal.SIGKILL)


def end_sessions(function: str, stack: Stack) -> None:
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    run_sql(stack, f"SELECT {function}(pid) {others}")


def read_only(stack: Stack) -> None:
    """As a standby that was asked by mistake."""
    run_sql(stack, "ALTER SYSTEM SET default_transaction_read_only = on")
    run_sql(stack, "SELECT pg_reload_conf()")
    time.sleep(HELD_SECONDS)
    run_sql(stack, "ALTER SYSTEM RESET default_transaction_read_only")
    run_sql(stack, "SELECT pg_reload_conf()")


def locked_accounts(stack: Stack) -> None:
    with lock(stack, "app_user"):
        time.sleep(HELD_SECONDS)


def no_connection_left(stack: Stack) -> None:
    """Others have taken them all."""
    with occupied(stack):
        time.sleep(HELD_SECONDS)


def half_closed(stack: Stack) -> None:
    """Clients that have said all and wait for the answer."""
    with ExitStack() as opened:
        for _ in range(50):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", stack.http_port)))
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
        time.sleep(1)


def reset_in_a_body(stack: Stack) -> None:
    head = b"POST /api/v1/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n{"
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", stack.http_port)) as client:
            client.sendall(head)
            # Nobody waits: the connection is reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def garbage(stack: Stack) -> None:
    for text in NO_HTTP:
        address = ("127.0.0.1", stack.http_port)
        with suppress(OSError), socket.create_connection(address, timeout=10) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            client.recv(100)


def never_read(stack: Stack) -> None:
    """Each asks a hundred times and takes no answer."""
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    with ExitStack() as opened:
        for _ in range(50):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", stack.http_port)))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.sendall(asked)
        time.sleep(HELD_SECONDS)


def big_headers(stack: Stack) -> None:
    with httpx2.Client(base_url=stack.url) as client:
        for size in (9_000, 30_000, 100_000):
            assert client.get("/readyz", headers={"X-Big": "x" * size}).status_code in (400, 431)


IGNORED = [signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD]
TO, ONE, ALL = (
    partial(partial, to_master),
    partial(partial, to_worker),
    partial(partial, to_workers),
)
CODE = partial(partial, in_worker)

FAULTS: dict[str, list[Fault]] = {
    "a worker": [
        Fault("ABRT", ONE(signal.SIGABRT), UNFINISHED),
        Fault("SEGV", ONE(signal.SIGSEGV), UNFINISHED),
        Fault("INT", ONE(signal.SIGINT)),
        Fault("QUIT", ONE(signal.SIGQUIT), UNFINISHED | {"GET 500", "POST 500"}),
        Fault("USR1", ONE(signal.SIGUSR1)),
        Fault("all killed at once", ALL(signal.SIGKILL), UNFINISHED),
        Fault("all paused", partial(pause, worker_pids), UNAVAILABLE),
        Fault("killed while it starts", kill_a_starting_worker),
        Fault("killed while its successor starts", kill_an_old_worker_in_a_reload, UNFINISHED),
        Fault("a request ends the process", CODE("import os; os._exit(1)"), UNFINISHED),
        Fault("a request raises SystemExit", CODE("raise SystemExit"), UNFINISHED),
        Fault("a request raises KeyboardInterrupt", CODE("raise KeyboardInterrupt"), UNFINISHED),
        Fault("a request recurses without end", CODE("f = lambda: f()\nf()")),
        Fault("no file can be opened", few_files),
        Fault("no memory is left", little_memory),
        Fault("a loop is blocked", CODE("import time; time.sleep(3)"), UNAVAILABLE),
    ],
    "the master": [
        Fault("HUP four times", TO([signal.SIGHUP] * 4)),
        Fault("TTIN, then TTOU", three_workers),
        Fault("TTOU five times", one_worker_only),
        Fault("USR2, WINCH, CHLD", TO(IGNORED)),
        Fault("paused", partial(pause, lambda stack: [master_pid(stack)])),
        Fault("the app's settings are wrong", partial(reload_with, "DATABASE_POOL_SIZE=many")),
        Fault("the code is gone", partial(reload_without, "app")),
        Fault("the configuration is gone", partial(reload_without, "gunicorn.conf.py")),
        Fault("others take all cores", busy_cores),
    ],
    "nginx": [
        Fault("HUP", partial(to_nginx, signal.SIGHUP), CUT),
        Fault("HUP beside a reload of gunicorn", reload_both, CUT),
        Fault("HUP with a mistake in a file", break_nginx),
        Fault("USR1", partial(to_nginx, signal.SIGUSR1)),
        Fault("a worker killed", kill_worker_of_nginx, CUT),
        Fault("its workers paused", partial(pause, workers_of_nginx)),
    ],
    "the database": [
        Fault("paused", partial(pause, postgres), UNAVAILABLE),
        Fault("all sessions ended", partial(end_sessions, "pg_terminate_backend"), UNAVAILABLE),
        Fault("all statements cancelled", partial(end_sessions, "pg_cancel_backend"), UNAVAILABLE),
        Fault("a session crashes", kill_a_backend, UNAVAILABLE),
        Fault("it only reads", read_only, WRITES_UNAVAILABLE),
        Fault("the accounts are locked", locked_accounts, UNAVAILABLE),
        Fault("no connection is left", no_connection_left, UNAVAILABLE),
    ],
    "clients": [
        Fault("close their half", half_closed),
        Fault("reset in a body", reset_in_a_body),
        Fault("send no HTTP", garbage),
        Fault("send headers that are too large", big_headers),
        Fault("never read", never_read),
    ],
}
