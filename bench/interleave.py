"""Measures the variants of a comparison in turns, in the environment of a generated service.

Each measurement has its server started, warmed up and stopped, so that none of them shares the
machine with another; each round takes them in an order of its own.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.variants import COMPARISONS, SERVICE, Comparison, Variant
from development import bench, load, nginx, ports, postgres, serve, supervisor
from development.load import Load
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
    """The port to ask, and the processes whose CPU counts: nginx is one of them."""
    app_port = port = ports.free_port()
    is_of_the_service = "{service_python}" in variant.command
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        tempfile.TemporaryFile() as log,
        supervisor.signals(signal.SIGINT, signal.SIGTERM) as inbox,
    ):
        bind = f"unix:{folder}/socket" if "unix" in variant.nginx else f"127.0.0.1:{app_port}"
        values = {"python": python, "service_python": sys.executable, "port": app_port}
        command = [part.format(**values, bind=bind) for part in variant.command]
        places = [(command, bench.ROOT if is_of_the_service else HERE, signal.SIGTERM)]
        if variant.nginx:
            port = ports.free_port()
            arguments = prepare_nginx(Path(folder) / "nginx", port, bind, variant)
            places.append((arguments, Path(folder), signal.SIGQUIT))
        environment = environment_of(variant, app_port, database_url)
        children: list[Child] = []
        try:
            for arguments, cwd, stop_signal in places:
                options = {"folder": cwd, "environment": environment, "output": log}
                children.append(supervisor.start(arguments[2], arguments, stop_signal, **options))
            if not serve.wait_until_ready(port, children, inbox):
                raise SystemExit("Interrupted.")
            yield port, [child.process.pid for child in children]
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-2000:])
            raise
        finally:
            supervisor.stop(children, inbox, serve.STOP_WITHIN_SECONDS)
        if supervisor.next_signal(inbox, 0):
            raise SystemExit("Interrupted.")


def environment_of(variant: Variant, port: int, database_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": database_url,
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


def prepare_nginx(folder: Path, port: int, bind: str, variant: Variant) -> list[str]:
    """The nginx of the service, but for what the variant asks of its upstream."""
    nginx.prepare(folder, port, 0)
    (folder / "site" / "upstream.conf").write_text(f"server {bind};\n")
    if "close" in variant.nginx:
        proxy = folder / "http" / "proxy.conf"
        text = proxy.read_text()
        changed = re.sub(r"^ +keepalive.*\n", "", text, flags=re.MULTILINE)
        proxy.write_text(changed.replace("Connection $connection_upgrade", "Connection close"))
    return nginx.command(nginx.find_binary(), folder)


def measure(variant: Variant, port: int, pids: list[int], seconds: float) -> dict[str, float]:
    if variant.command == SERVICE:
        request = bench.authenticated_read(port)
    else:
        request = f"GET {variant.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    spin_ms = bench.spin()
    full = Load(port, request, variant.connections, seconds)
    bench.drive(Load(port, request, variant.connections, min(1, seconds)))
    before = cpu_seconds(pids)
    closed = bench.drive(full)
    used_seconds = cpu_seconds(pids) - before
    rate = RATE_SHARE * closed.requests_per_second
    steady = bench.drive(Load(port, request, variant.connections, seconds, rate))
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
