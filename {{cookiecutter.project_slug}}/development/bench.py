"""`make bench`: which workers and pool suit this service on this machine, measured through nginx.

Each round starts every choice once, in an order of its own, so that an hour in which the machine is
busy with something else hits all of them. Medians of the rounds are printed, with their spread.
"""

import argparse
import asyncio
import http
import json
import os
import platform
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

from uvicorn.loops.auto import auto_loop_factory

from development import (
    DevelopmentError,
    bench_report,
    load,
    nginx,
    ports,
    postgres,
    serve,
    supervisor,
)
from development.load import Load, Outcome
from development.supervisor import Child
from server.exporter import read_process

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".local" / "bench"
LOG = FOLDER / "gunicorn.log"
PATH = "/api/v1/users/me"
USER = {"email": "bench@example.com", "password": "correct horse battery staple"}
# Of the requests per second that the planned choice reaches: latencies of a service that is full
# say how long its queue is, and nothing else.
_RATE_SHARE = 0.6


@dataclass(frozen=True)
class Choice:
    workers: int
    pool_size: int
    connections: int


@dataclass(frozen=True)
class Measured:
    """Of one choice in one round."""

    choice: Choice
    requests_per_second: float
    # Of gunicorn and its workers, in the closed loop; None where there is no /proc.
    cpu_us_per_request: float | None
    # At the rate that all choices get.
    p50_ms: float
    p99_ms: float
    failures: dict[str, int]
    generator_late_p99_ms: float
    # A fixed piece of work before this measurement: when it varies, the machine is noisy.
    spin_ms: float


@dataclass(frozen=True)
class Options:
    workers: Sequence[int]
    pool_sizes: Sequence[int]
    connections: Sequence[int]
    rounds: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    options = _read_options(arguments)
    try:
        measured = _measure_all(options)
    except KeyboardInterrupt:
        return 130
    except DevelopmentError as error:
        print(f"{error} The log: {LOG}", file=sys.stderr)
        return 1
    _write(measured, options)
    return 1 if any(one.failures for one in measured) else 0


def _read_options(arguments: Sequence[str] | None) -> Options:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--workers", type=_numbers, default=sorted({1, cores, 2 * cores + 1}))
    parser.add_argument("--pool-sizes", type=_numbers, default=[1, 2, 5, 10])
    parser.add_argument("--connections", type=_numbers, default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    return Options(**vars(parser.parse_args(arguments)))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _measure_all(options: Options) -> list[Measured]:
    if serve.LauncherSettings.load().database_url is None:
        postgres.start()
    binary = nginx.find_binary()
    pairs = [(workers, size) for workers in options.workers for size in options.pool_sizes]
    measured: list[Measured] = []
    rate: float | None = None
    for number in range(options.rounds):
        for place, (workers, pool_size) in enumerate(random.sample(pairs, len(pairs))):
            done = f"round {number + 1} of {options.rounds}, {place + 1} of {len(pairs)}"
            print(f"{done}: {workers} workers, pool {pool_size}", file=sys.stderr, flush=True)
            environment = {
                "WEB_CONCURRENCY": str(workers),
                "DATABASE_POOL_SIZE": str(pool_size),
                "SIGN_UP_OPEN": "true",
            }
            with serving(environment, binary) as (port, gunicorn_pid):
                request = authenticated_read(port)
                for connections in options.connections:
                    choice = Choice(workers, pool_size, connections)
                    full = Load(port, request, connections, options.seconds)
                    rate = rate or _RATE_SHARE * drive(full).requests_per_second
                    measured.append(_measure(choice, full, rate, gunicorn_pid))
    return measured


@contextmanager
def serving(
    environment: Mapping[str, str], nginx_binary: str | None = None, *app: str
) -> Iterator[tuple[int, int]]:
    """The port and gunicorn's process id."""
    app_port, http_port = ports.free_port(), ports.free_port()
    # As in production: a line for people costs as much as a statement.
    ours = {"APP_PORT": str(app_port), "LOG_FORMAT": "json"}
    FOLDER.mkdir(parents=True, exist_ok=True)
    port, nginx_command, children = app_port, list[str](), list[Child]()
    if nginx_binary:
        nginx.prepare(FOLDER / "nginx", http_port, app_port)
        port, nginx_command = http_port, nginx.command(nginx_binary, FOLDER / "nginx")
    with supervisor.signals(signal.SIGINT, signal.SIGTERM) as inbox, LOG.open("wb") as log:
        try:
            serve.start(
                children, {**os.environ, **environment, **ours}, nginx_command, *app, output=log
            )
            if not serve.wait_until_ready(port, children, inbox):
                raise KeyboardInterrupt
            yield port, children[0].process.pid
        finally:
            supervisor.stop(children, inbox, serve.STOP_WITHIN_SECONDS)
        if supervisor.next_signal(inbox, 0):
            raise KeyboardInterrupt


def authenticated_read(port: int, user: Mapping[str, str] = USER) -> bytes:
    """The request of a user of its own, as it goes over the wire."""
    # Known already after the first start.
    json_type = {"Content-Type": "application/json"}
    serve.call(port, "POST", "/api/v1/users", json.dumps(user), json_type)
    form = urlencode({"username": user["email"], "password": user["password"]})
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer = serve.call(port, "POST", "/api/v1/auth/token", form, form_type)
    if status != http.HTTPStatus.OK:
        raise DevelopmentError(f"Nobody could log in: {status} {answer.decode(errors='replace')}")
    token = json.loads(answer)["access_token"]
    return (
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def _measure(choice: Choice, full: Load, rate: float, gunicorn_pid: int) -> Measured:
    spin_ms = spin()
    # Caches, connections, the prepared statement: not what is measured.
    drive(Load(full.port, full.request, full.connections, min(1, full.seconds)))
    before = cpu_seconds(gunicorn_pid)
    closed = drive(full)
    after = cpu_seconds(gunicorn_pid)
    cpu = (after - before) / len(closed.latencies_ms) * 1e6 if before and after else None
    steady = drive(Load(full.port, full.request, full.connections, full.seconds, rate))
    return Measured(
        choice,
        closed.requests_per_second,
        cpu,
        load.percentile(steady.latencies_ms, 0.5),
        load.percentile(steady.latencies_ms, 0.99),
        dict(closed.failures + steady.failures),
        load.percentile(steady.lateness_ms, 0.99),
        spin_ms,
    )


def drive(one: Load) -> Outcome:
    # The service's own loop: asyncio's would cost this process twice as much.
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        return runner.run(load.run(one))


def spin() -> float:
    began = time.perf_counter()
    sum(range(2_000_000))
    return (time.perf_counter() - began) * 1000


def children_of(pid: int) -> list[int]:
    """None where the system has no /proc."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def cpu_seconds(master_pid: int) -> float:
    """Of gunicorn and its workers so far; 0 where the system has no /proc."""
    return sum(read_process(pid)[1] for pid in (master_pid, *children_of(master_pid)))


def _write(measured: Sequence[Measured], options: Options) -> None:
    rows = bench_report.summarise(measured)
    print(bench_report.table(rows))
    print(bench_report.advice(rows, measured))
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("fastapi", "gunicorn", "uvicorn", "asyncpg")},
        "path": PATH,
        "options": asdict(options),
        "rounds": [asdict(one) for one in measured],
    }
    (FOLDER / "bench.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    (FOLDER / "bench.svg").write_text(bench_report.plot(rows), encoding="utf-8")
    print(f"{FOLDER.relative_to(ROOT)}/bench.json and bench.svg hold every round.")


if __name__ == "__main__":
    sys.exit(main())
