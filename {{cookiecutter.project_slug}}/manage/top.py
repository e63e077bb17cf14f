"""`manage top`: how busy the service is, from its metrics, for people and for scripts."""

import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING

import click
from prometheus_client.parser import text_string_to_metric_families

from server.settings import ServerSettings

if TYPE_CHECKING:
    from rich.console import RenderableType

ANSWER_WITHIN_SECONDS = 5
ROUTES_SHOWN = 8
MEBIBYTE = 2**20
REQUESTS = "http_server_request_duration_seconds"

Row = tuple[str, ...]


@click.command()
@click.option("--once", is_flag=True, help="Two looks, then the end.")
@click.option("--seconds", default=2.0, help="Between two looks.", type=click.FloatRange(min=0.1))
def top(once: bool, seconds: float) -> None:
    """Watch workers, memory, requests, latency, pool and event loop of the running service."""
    settings = ServerSettings.load()
    if settings.metrics_port == 0:
        raise click.ClickException("METRICS_PORT is 0: this service has no metrics.")
    # The addresses that mean all of them are none to ask.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.metrics_host, settings.metrics_host)  # noqa: S104
    looks = (Figures(*pair) for pair in pairwise(look(host, settings.metrics_port, seconds)))
    with suppress(KeyboardInterrupt):
        if once:
            click.echo(as_text(next(looks)))
        elif sys.stdout.isatty() and find_spec("rich"):
            show(looks)
        else:
            for figures in looks:
                click.echo(as_text(figures))


class Look:
    """All values at one moment."""

    def __init__(self, text: str) -> None:
        self.at = time.monotonic()
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def values(self, name: str, label: str = "", **wanted: str) -> dict[str, float]:
        """The sum for each value of this label, of what has the wanted ones."""
        sums: dict[str, float] = {}
        for sample in self.samples:
            if sample.name == name and wanted.items() <= sample.labels.items():
                key = sample.labels.get(label, "")
                sums[key] = sums.get(key, 0) + sample.value
        return sums

    def value(self, name: str) -> float:
        return sum(self.values(name).values())


def look(host: str, port: int, seconds: float) -> Iterator[Look]:
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN_SECONDS)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise click.ClickException(
                f"Nothing answers at http://{host}:{port}/metrics ({error}): is the service running"
                " here, with these METRICS_HOST and METRICS_PORT?"
            ) from error
        finally:
            connection.close()
        yield Look(text)
        time.sleep(seconds)


class Figures:
    """What happened between two looks."""

    def __init__(self, before: Look, now: Look) -> None:
        self._before, self._now = before, now
        self._seconds = now.at - before.at

    def rate(self, name: str, label: str = "", **wanted: str) -> dict[str, float]:
        before, now = (one.values(name, label, **wanted) for one in (self._before, self._now))
        # A service that has begun anew counts from 0.
        return {
            key: max(0.0, value - before.get(key, 0)) / self._seconds for key, value in now.items()
        }

    def per_second(self, name: str, **wanted: str) -> str:
        return f"{sum(self.rate(name, **wanted).values()):.1f}/s"

    def quantile(self, share: float, name: str, **wanted: str) -> str:
        """The edge of the histogram below which that share of them were."""
        buckets = self.rate(f"{name}_bucket", "le", **wanted)
        most = max(buckets.values(), default=0)
        edges = sorted((float(edge), rate) for edge, rate in buckets.items())
        edge = next((edge for edge, rate in edges if rate >= share * most), 0) if most else None
        if edge is None:
            return "-"
        return f"<{edge * 1000:g} ms" if edge != float("inf") else f">{edges[-2][0] * 1000:g} ms"

    def summary(self) -> Iterator[Row]:
        now, is_5xx = self._now, self.rate(f"{REQUESTS}_count", "status")
        failed = sum(rate for status, rate in is_5xx.items() if status.startswith("5"))
        busy = sum(self.rate("app_database_pool_busy_seconds_total").values())
        size = now.value("app_database_pool_size")
        workers, planned = now.value("server_workers"), now.value("server_planned_workers")
        yield "workers", f"{workers:g} of {planned:g}"
        yield "requests", self.per_second(f"{REQUESTS}_count")
        yield "failed (5xx)", f"{failed:.1f}/s"
        yield "latency p50", self.quantile(0.5, REQUESTS)
        yield "latency p99", self.quantile(0.99, REQUESTS)
        yield "in flight", f"{now.value('server_requests_in_flight'):g}"
        yield "connections", f"{now.value('server_connections'):g}"
        yield "loop lag p99", self.quantile(0.99, "server_loop_lag_seconds")
        yield "pool in use", f"{now.value('app_database_pool_in_use'):g} of {size:g}"
        yield "pool busy", f"{100 * busy / size:.0f} %" if size else "-"
        yield "pool waiting", f"{now.value('app_database_pool_waiting'):g}"
        yield "statements", self.per_second("app_sql_statements_total")
        yield "password hashes", f"{now.value('app_password_hashes_pending'):g}"
        yield "shed (503)", self.per_second("app_requests_shed_total")
        yield "late (504)", self.per_second("app_deadlines_missed_total")

    def processes(self) -> Iterator[Row]:
        memory = "server_process_resident_bytes"
        ticks = self._now.values("server_loop_tick_timestamp_seconds", "pid")
        cpu = self.rate("server_process_cpu_seconds_total", "pid")
        for role in self._now.values(memory, "role"):
            for pid, size in self._now.values(memory, "pid", role=role).items():
                # Written once a second.
                silent = f"{max(0.0, time.time() - ticks[pid]):.0f} s" if pid in ticks else ""
                share = f"{100 * cpu.get(pid, 0):.0f} %"
                yield role, pid, f"{size / MEBIBYTE:.0f} MiB", share, silent

    def routes(self) -> Iterator[Row]:
        rates = self.rate(f"{REQUESTS}_count", "route")
        for route, rate in sorted(rates.items(), key=lambda one: -one[1])[:ROUTES_SHOWN]:
            if rate:
                yield route, f"{rate:.1f}/s", self.quantile(0.99, REQUESTS, route=route)

    def tables(self) -> Iterator[tuple[Row, list[Row]]]:
        yield ("now", ""), list(self.summary())
        yield ("process", "pid", "memory", "CPU", "silent for"), list(self.processes())
        yield ("route", "requests", "p99"), list(self.routes())


def as_text(figures: Figures) -> str:
    """Columns with spaces between them, an empty line between tables."""
    lines = []
    for head, rows in figures.tables():
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return "\n".join(lines)


def show(looks: Iterator[Figures]) -> None:
    from rich.live import Live  # noqa: PLC0415

    figures = next(looks)
    with Live(as_screen(figures), screen=True, auto_refresh=False) as screen:
        for figures in looks:
            screen.update(as_screen(figures), refresh=True)


def as_screen(figures: Figures) -> "RenderableType":
    from rich.box import SIMPLE  # noqa: PLC0415
    from rich.columns import Columns  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    tables = []
    for head, rows in figures.tables():
        table = Table(*head, box=SIMPLE)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return Columns(tables)
