"""The sum over all workers, served by a process that none of them holds up."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from development.ports import free_port
from tests.server.conftest import ENVIRONMENT, Start
from tests.servers import SERVICE, Gunicorn, start_gunicorn, wait_until

pytestmark = pytest.mark.system

CLIENTS = 4
ANSWERS_MIN = 200
ANSWER_SECONDS = 0.1


class Service:
    """The real one without a database, with its metrics."""

    def __init__(self, gunicorn: Gunicorn, port: int) -> None:
        self.gunicorn = gunicorn
        self.port = port
        self.url = f"http://127.0.0.1:{port}/metrics"

    def metrics(self) -> dict[tuple[str, str], float]:
        """By name and by what is in the label that tells one from the other."""
        text = httpx2.get(self.url, timeout=1).text
        return {
            (
                sample.name,
                sample.labels.get("route") or sample.labels.get("reason") or "",
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "le" not in sample.labels
        }

    def counted(self) -> float:
        name = "http_server_request_duration_seconds_count"
        return self.metrics().get((name, "/version"), 0)

    def processes(self, role: str) -> list[int]:
        return [
            int(sample.labels["pid"])
            for family in text_string_to_metric_families(httpx2.get(self.url, timeout=1).text)
            for sample in family.samples
            if sample.name == "server_process_resident_bytes" and sample.labels["role"] == role
        ]

    def ends(self, reason: str) -> float:
        return self.metrics().get(("server_worker_ends_total", reason), 0)


Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as running:

        def serve(*arguments: str, **environment: str) -> Service:
            port = free_port()
            variables = {**ENVIRONMENT, "METRICS_PORT": str(port), "METRICS_DIR": str(tmp_path)}
            variables["WEB_CONCURRENCY"] = "2"
            gunicorn = start_gunicorn(tmp_path, variables | environment, *SERVICE, *arguments)
            running.enter_context(gunicorn)
            wait_until(lambda: listens(gunicorn))
            service = Service(gunicorn, port)
            wait_until(lambda: len(service.processes("worker")) == 2)
            return service

        yield serve


def listens(gunicorn: Gunicorn) -> bool:
    assert gunicorn.process.poll() is None, gunicorn.log()
    try:
        return gunicorn.get("/livez").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


@contextmanager
def load(service: Service) -> Iterator[Counter[bool]]:
    """Clients that ask without a pause; afterwards, how many requests were answered or failed."""
    stop, results = Event(), Counter[bool]()

    def ask() -> None:
        while not stop.is_set():
            try:
                is_answered = service.gunicorn.get("/version").status_code == httpx2.codes.OK
            except httpx2.TransportError:
                is_answered = False
            results[is_answered] += 1

    with ThreadPoolExecutor(CLIENTS) as clients:
        asking = [clients.submit(ask) for _ in range(CLIENTS)]
        try:
            wait_until(lambda: results[True] > ANSWERS_MIN)
            yield results
        finally:
            stop.set()
    for client in asking:
        client.result()


@pytest.mark.parametrize(("reason", "max_requests"), [("recycled", "300"), ("reloaded", "0")])
def test_each_request_counts_once_when_workers_are_replaced(
    serve: Serve, reason: str, max_requests: str
) -> None:
    service = serve(SERVER_MAX_REQUESTS=max_requests)
    with load(service) as results:
        if reason == "reloaded":
            service.gunicorn.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.ends(reason) >= 1)
    assert results[False] == 0
    assert service.counted() == results[True]


def test_nothing_is_lost_but_what_was_in_flight_when_a_worker_is_killed(serve: Serve) -> None:
    service = serve()
    with load(service) as results:
        os.kill(service.processes("worker")[0], signal.SIGKILL)
        wait_until(lambda: service.ends("crashed") == 1)
    # It counts when an answer is out: those that it was about to count are in flight too.
    assert results[True] - CLIENTS <= service.counted() <= results.total()
    assert results[False] <= CLIENTS


def test_metrics_go_on_when_their_process_is_killed(serve: Serve) -> None:
    service = serve()
    with load(service) as results:
        pass
    os.kill(service.processes("exporter")[0], signal.SIGKILL)
    wait_until(lambda: "has ended; another one starts" in service.gunicorn.log())
    wait_until(lambda: is_served(service))
    assert service.counted() == results[True]


def is_served(service: Service) -> bool:
    try:
        return httpx2.get(service.url, timeout=1).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exporter_and_files_leave_with_the_master(
    serve: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    service = serve()
    assert list(tmp_path.glob("metrics-*"))
    service.gunicorn.stop(number)
    wait_until(lambda: not is_served(service))
    wait_until(lambda: not list(tmp_path.glob("metrics-*")))


def test_metrics_answer_when_all_workers_are_stuck(start: Start, tmp_path: Path) -> None:
    port = free_port()
    gunicorn = start(WEB_CONCURRENCY="2", METRICS_PORT=str(port), METRICS_DIR=str(tmp_path))
    service = Service(gunicorn, port)
    wait_until(lambda: len(service.processes("worker")) == 2)
    stalls = [gunicorn.pool.submit(gunicorn.get, "/stall?seconds=4") for _ in range(6)]
    with pytest.raises(httpx2.TimeoutException):
        while not all(stall.done() for stall in stalls):
            httpx2.get(f"http://127.0.0.1:{gunicorn.port}/pid", timeout=1)
    assert answers_within(service) < ANSWER_SECONDS


def test_metrics_answer_when_the_database_is_away(serve: Serve) -> None:
    service = serve()
    assert service.gunicorn.get("/readyz").status_code == httpx2.codes.SERVICE_UNAVAILABLE
    assert answers_within(service) < ANSWER_SECONDS


def answers_within(service: Service) -> float:
    """The best of five: other tests use the machine as well."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        httpx2.get(service.url, timeout=1).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_nothing_listens_when_metrics_are_off(start: Start, tmp_path: Path) -> None:
    start(METRICS_PORT="0", METRICS_DIR=str(tmp_path))
    assert not list(tmp_path.glob("metrics-*"))


def test_requests_are_answered_when_the_place_of_the_metrics_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=200k", "none", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root mounts a file system that is too small")
    port = free_port()
    variables = {**ENVIRONMENT, "METRICS_PORT": str(port), "METRICS_DIR": str(small)}
    try:
        with start_gunicorn(tmp_path, {**variables, "WEB_CONCURRENCY": "2"}, *SERVICE) as gunicorn:
            wait_until(lambda: listens(gunicorn))
            with load(Service(gunicorn, port)) as results:
                pass
            assert results[False] == 0
            assert "The metrics need" in gunicorn.log()
            assert "is not counted any more" in gunicorn.log()
            assert "was sent SIGBUS" not in gunicorn.log()
            assert is_served(Service(gunicorn, port))
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(small)], check=True)
