"""Measures the variants of a comparison in turns, in the environment of a generated service.

Each measurement has its server started, warmed up and stopped, so that none of them shares the
machine with another; each round takes them in an order of its own.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from uvicorn.loops.auto import auto_loop_factory

from bench import hops
from bench.hops import Hop
from bench.variants import COMPARISONS, SERVICE, Comparison, Variant
from development import bench, load, ports, postgres, serve, supervisor
from development.load import Load, Outcome
from development.supervisor import Child

HERE = Path(__file__).resolve().parent
# Of what a variant does at most: latencies of a full service say how long its queue is.
RATE_SHARE = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("python", help="of the comparisons' environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each of the two loads")
    options = parser.parse_args()
    # A connection is a file here and another one in the server, which inherits the limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    comparison = COMPARISONS[options.output.stem]
    measured = measure_all(comparison, options)
    document = {
        **describe(comparison, options.python),
        "options": {"rounds": options.rounds, "seconds": options.seconds},
        "variants": [
            {"name": one.name, "connections": one.connections, "rounds": measured[one.name]}
            for one in comparison.variants
        ],
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure_all(
    comparison: Comparison, options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    database_url = postgres.start()
    measured: dict[str, list[dict[str, float]]] = {one.name: [] for one in comparison.variants}
    for number in range(options.rounds):
        turns = random.sample(comparison.variants, len(comparison.variants))
        for place, variant in enumerate(turns):
            done = f"round {number + 1} of {options.rounds}, {place + 1} of {len(turns)}"
            print(f"{done}: {variant.name}", file=sys.stderr, flush=True)
            with serving(variant, options.python, database_url) as (port, pids):
                measured[variant.name].append(measure(variant, port, pids, options.seconds))
    return measured


def describe(comparison: Comparison, python: str) -> dict[str, object]:
    asked = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    command = [python, "-c", asked, *comparison.packages]
    versions = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {
        "question": comparison.question,
        "metric": comparison.metric,
        "over": comparison.over,
        "measured_at": datetime.now(UTC).date().isoformat(),
        "machine": {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "python": platform.python_version(),
        "packages": dict(zip(comparison.packages, versions, strict=True)),
    }


@contextmanager
def serving(variant: Variant, python: str, database_url: str) -> Iterator[tuple[int, list[int]]]:
    """The port to ask, and the processes whose CPU counts: nginx and PgBouncer are among them."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        tempfile.TemporaryFile() as log,
        supervisor.signals(signal.SIGINT, signal.SIGTERM) as inbox,
    ):
        way = Way.of(variant, python, Path(folder), database_url)
        children: list[Child] = []
        try:
            for hop in way.hops:
                options = {"folder": hop.folder, "environment": way.environment, "output": log}
                child = supervisor.start(hop.name, hop.command, hop.stop_signal, **options)
                children.append(child)
            if not serve.wait_until_ready(way.plain_port, children, inbox):
                raise SystemExit("Interrupted.")
            pairs = zip(children, way.hops, strict=True)
            yield way.port, [child.process.pid for child, hop in pairs if hop.counts]
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-2000:])
            raise
        finally:
            supervisor.stop(children, inbox, serve.STOP_WITHIN_SECONDS)
        if supervisor.next_signal(inbox, 0):
            raise SystemExit("Interrupted.")


@dataclass(frozen=True)
class Way:
    """From the port that is asked to PostgreSQL."""

    port: int
    # The same without TLS.
    plain_port: int
    # In the order in which they start.
    hops: Sequence[Hop]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, variant: Variant, python: str, folder: Path, database_url: str) -> "Way":
        app_port = port = plain_port = ports.free_port()
        bind = f"unix:{folder}/socket" if "unix" in variant.nginx else f"127.0.0.1:{app_port}"
        values = {"python": python, "service_python": sys.executable, "port": app_port}
        command = [part.format(**values, bind=bind) for part in variant.command]
        is_of_the_service = "{service_python}" in variant.command
        places = [Hop(command[2], command, bench.ROOT if is_of_the_service else HERE)]
        environment = environment_of(variant, app_port, database_url)
        if variant.before_database:
            hop, through = hops.before_database(variant.before_database, folder, database_url)
            places.insert(0, hop)
            environment["DATABASE_URL"] = through
        if variant.nginx:
            port = plain_port = ports.free_port()
            if "tls" in variant.nginx:
                port = ports.free_port()
            below = folder / "nginx"
            places.append(hops.before_server(below, plain_port, port, bind, variant.nginx))
        return cls(port, plain_port, places, environment)


def environment_of(variant: Variant, port: int, database_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        # Whatever else stands before the database: through PgBouncer nothing is heard.
        "DATABASE_LISTEN_URL": database_url,
        "APP_PORT": str(port),
        "WEB_CONCURRENCY": "2",
        "SIGN_UP_OPEN": "true",
        "METRICS_PORT": str(ports.free_port()),
        # As in production: a line for people costs as much as a statement.
        "LOG_FORMAT": "json",
        # Nobody is asked to go on while a server stops.
        "SERVER_LAME_DUCK_SECONDS": "0",
        **variant.environment,
    }


def measure(variant: Variant, port: int, pids: list[int], seconds: float) -> dict[str, float]:
    spin_ms = bench.spin()
    full = load_of(variant, port, seconds)
    bench.drive(replace(full, seconds=min(1, seconds)))
    before = cpu_seconds(pids)
    closed = drive(full, variant.logins_per_second)
    used_seconds = cpu_seconds(pids) - before
    rate = RATE_SHARE * closed.requests_per_second
    steady = drive(replace(full, rate=rate), variant.logins_per_second)
    failures = closed.failures + steady.failures
    if failures:
        raise SystemExit(f"{variant.name}: {dict(failures)}")
    return {
        "requests_per_second": round(closed.requests_per_second, 1),
        "cpu_us": round(used_seconds / len(closed.latencies_ms) * 1e6, 1),
        "p99_full_ms": round(load.percentile(closed.latencies_ms, 0.99), 2),
        "p50_ms": round(load.percentile(steady.latencies_ms, 0.5), 2),
        "p99_ms": round(load.percentile(steady.latencies_ms, 0.99), 2),
        "late_p99_ms": round(load.percentile(steady.lateness_ms, 0.99), 2),
        "spin_ms": round(spin_ms, 2),
    }


def load_of(variant: Variant, port: int, seconds: float) -> Load:
    if variant.command == SERVICE:
        request = bench.authenticated_read(port)
    else:
        close = "Connection: close\r\n" if variant.reconnects else ""
        request = f"GET {variant.path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n".encode()
    tls = None
    if "tls" in variant.nginx:
        # Nobody has signed its certificate.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Load(port, request, variant.connections, seconds, tls=tls)


def drive(load_: Load, logins_per_second: int) -> Outcome:
    """The outcome of the load, with the failures of the logins beside it."""
    if not logins_per_second:
        return bench.drive(load_)
    form = urlencode({"username": bench.USER["email"], "password": bench.USER["password"]})
    request = (
        "POST /api/v1/auth/token HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(form)}\r\n\r\n{form}"
    ).encode()
    logins = Load(load_.port, request, 8, load_.seconds, logins_per_second)

    async def run_both() -> Outcome:
        outcome, beside = await asyncio.gather(load.run(load_), load.run(logins))
        outcome.failures.update(beside.failures)
        return outcome

    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        return runner.run(run_both())


def cpu_seconds(masters: list[int]) -> float:
    """Of these and their children, also of those that have ended: workers are replaced."""
    ticks = 0
    for master in masters:
        for pid in (master, *bench.children_of(master)):
            # utime, stime and those of children that were waited for. proc_pid_stat(5)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
