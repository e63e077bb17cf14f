"""The process that serves /metrics: a child of gunicorn's master that no worker can hold up.

It lives as long as the master: that one starts it again, and it ends when that one is gone.
"""

import logging
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, Self

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from server.metric_files import MetricFiles, make_directory, retire
from server.metrics import METRICS_VARIABLE, Gauge, use_own_files
from server.settings import ServerSettings

log = logging.getLogger(__name__)

# How long the end of the master and files of dead workers may go unnoticed.
POLL_SECONDS = 0.5
# An address that is taken, such as by the instance that this one replaces, is tried again.
BIND_RETRY_SECONDS = 1


_STARTED = Gauge("server_start_timestamp_seconds", "When the master began")


class Listener(Protocol):
    def close(self) -> None: ...


class Exporter:
    """What the master has of it."""

    def __init__(self, directory: Path, host: str, port: int) -> None:
        self._directory = directory
        self._address = (host, port)
        # The child has the other end open until it ends.
        self._pipe: int | None = None

    @classmethod
    def prepare(cls, settings: ServerSettings, processes: int) -> Self | None:
        """Before the first fork and the first value; None when metrics are off."""
        if settings.metrics_port == 0:
            return None
        try:
            directory = make_directory(settings.metrics_dir, processes)
        except OSError as error:
            log.error("There are no metrics: %s", error)
            return None
        # Where prometheus-client looks.
        os.environ[METRICS_VARIABLE] = str(directory)
        use_own_files()
        _STARTED.set(time.time())
        return cls(directory, settings.metrics_host, settings.metrics_port)

    def keep_running(self, listeners: Sequence[Listener]) -> None:
        """Every second."""
        if self._pipe is not None:
            if not select.select([self._pipe], [], [], 0)[0]:
                return
            os.close(self._pipe)
            log.warning("The process that serves the metrics has ended; another one starts")
        self._pipe, writer = os.pipe()
        if os.fork() == 0:
            for listener in listeners:
                listener.close()
            _export(self._directory, self._address)
        os.close(writer)

    def retire(self, pid: int) -> None:
        try:
            retire(self._directory, pid)
        except OSError as error:
            log.error("The metrics of worker %d may be lost: %s", pid, error)


def _export(directory: Path, address: tuple[str, int]) -> NoReturn:
    # The handlers were the master's. What is sent to the whole group is not meant for this one.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        _serve_until_alone(directory, address)
    except BaseException:
        log.exception("The metrics cannot be served")
        time.sleep(BIND_RETRY_SECONDS)
    os._exit(1)


def _serve_until_alone(directory: Path, address: tuple[str, int]) -> None:
    master = os.getppid()
    files = MetricFiles(directory)
    registry = CollectorRegistry()
    registry.register(files)
    registry.register(ProcessFigures(directory, files))
    is_bound = is_folded = True
    serves = False
    while os.getppid() == master:
        if not serves:
            serves = _bind(address, registry, is_first=is_bound)
            is_bound = serves
        is_folded = _fold(files, is_first=is_folded)
        time.sleep(POLL_SECONDS)
    shutil.rmtree(directory, ignore_errors=True)


def _bind(address: tuple[str, int], registry: CollectorRegistry, *, is_first: bool) -> bool:
    host, port = address
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        if is_first:
            log.error("The metrics cannot be served on %s:%d yet: %s", host, port, error)
        return False
    return True


def _fold(files: MetricFiles, *, is_first: bool) -> bool:
    try:
        files.fold()
    except OSError as error:
        if is_first:
            log.error("The metrics of dead workers stay as they are: %s", error)
        return False
    return True


class ProcessFigures(Collector):
    """What the kernel knows of each process, and the state of the files."""

    def __init__(self, directory: Path, files: MetricFiles) -> None:
        self._directory = directory
        self._files = files

    def collect(self) -> Iterable[Metric]:
        free = GaugeMetricFamily("server_metrics_free_bytes", "Left where the metrics are kept")
        free.add_metric([], shutil.disk_usage(self._directory).free)
        damaged = GaugeMetricFamily("server_metrics_damaged_files", "Whose counts are lost")
        damaged.add_metric([], len(self._files.damaged))
        memory = GaugeMetricFamily(
            "server_process_resident_bytes", "Memory", labels=["role", "pid"]
        )
        cpu = CounterMetricFamily(
            "server_process_cpu_seconds_total", "CPU time", labels=["role", "pid"]
        )
        for role, pid in self._processes():
            resident_bytes, cpu_seconds = read_process(pid)
            memory.add_metric([role, str(pid)], resident_bytes)
            cpu.add_metric([role, str(pid)], cpu_seconds)
        return free, damaged, memory, cpu

    def _processes(self) -> list[tuple[str, int]]:
        # Every worker has this file from its first second on.
        files = self._directory.glob("gauge_liveall_*.db")
        workers = [("worker", int(file.stem.rpartition("_")[2])) for file in files]
        processes = [("master", os.getppid()), ("exporter", os.getpid()), *workers]
        return [one for one in processes if Path(f"/proc/{one[1]}/stat").exists()]


def read_process(pid: int, root: Path = Path("/proc")) -> tuple[int, float]:
    """Resident bytes and CPU seconds; https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    try:
        # The name of the process may hold spaces and brackets.
        fields = (root / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0, 0.0
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")
