"""Each alert about gunicorn fires, and each panel has data, when the thing is really broken."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from development.ports import free_port
from tests.conftest import PASSWORD, empty_tables
from tests.prometheus import Prometheus, rules_within_seconds, running_prometheus, target
from tests.server.test_metrics import listens
from tests.servers import (
    DEADLINE_SECONDS,
    SERVICE,
    Gunicorn,
    service_environment,
    start_gunicorn,
    wait_until,
)
from tests.test_observability import ALERTS, panel_queries

pytestmark = pytest.mark.system

# What runs beside gunicorn: tests/test_alerts_beside.py.
BESIDE = {"NginxIsDown", "CertificateExpires", "JobsFail", "JobsWait"}
EMAIL = "grace@example.com"
CLIENTS = 12
BREAKABLE = {
    "WEB_CONCURRENCY": "2",
    "DATABASE_POOL_SIZE": "1",
    # Less than these workers may open.
    "DATABASE_CONNECTION_BUDGET": "6",
    "DATABASE_POOL_TIMEOUT_SECONDS": "1",
    "REQUEST_DEADLINE_SECONDS": "2",
    "REFRESH_REUSE_GRACE_SECONDS": "0",
    "LOGIN_ATTEMPTS_PER_ACCOUNT": "2",
}


class Broken:
    """The service, and the ways to break it."""

    def __init__(self, folder: Path, settings: Settings, running: ExitStack) -> None:
        self.folder = folder
        self.metrics_port = free_port()
        self._running = running
        self._environment = service_environment(settings) | BREAKABLE
        self._environment |= {"METRICS_PORT": str(self.metrics_port), "METRICS_DIR": str(folder)}
        self._clients = running.enter_context(ThreadPoolExecutor(CLIENTS))
        self._holding: list[Future[httpx2.Response]] = []
        self.is_done = False
        self.start()

    def start(self) -> None:
        application = "tests.failing_app:create_app()"
        started = start_gunicorn(self.folder, self._environment, *SERVICE, application)
        self.gunicorn: Gunicorn = self._running.enter_context(started)
        wait_until(lambda: listens(self.gunicorn))

    def ask(self, path: str, times: int = 1) -> None:
        asked = [self._clients.submit(self.gunicorn.get, path) for _ in range(times)]
        for answer in asked:
            answer.result()

    def hold_connections(self) -> None:
        """More than there are, without a pause."""
        self._holding = [answer for answer in self._holding if not answer.done()]
        missing = CLIENTS - len(self._holding)
        self._holding += [
            self._clients.submit(self.gunicorn.get, "/holds?seconds=0.5") for _ in range(missing)
        ]

    def begin(self, path: str) -> None:
        """Nobody waits for it."""
        self._clients.submit(self.gunicorn.get, path)

    def once(self, way: Callable[[], object]) -> None:
        """The first time counts too: many a counter has no value before it."""
        if not self.is_done:
            self.is_done = True
            way()

    def guess(self) -> None:
        form = {"username": "ada@example.com", "password": "wrong password"}
        self.gunicorn.client.post("/api/v1/auth/token", data=form)

    def reuse_a_token(self) -> None:
        client, form = self.gunicorn.client, {"username": EMAIL, "password": PASSWORD}
        client.post("/api/v1/users", json={"email": EMAIL, "password": PASSWORD})
        pair = client.post("/api/v1/auth/token", data=form).raise_for_status().json()
        for status in (200, 401):
            body = {"refresh_token": pair["refresh_token"]}
            assert client.post("/api/v1/auth/refresh", json=body).status_code == status

    def damage_a_file(self) -> None:
        [directory] = self.folder.glob("metrics-*")
        (directory / "counter_99.db").write_bytes(b"no numbers" * 100)

    def kill_a_worker(self) -> None:
        os.kill(self.workers()[0], signal.SIGKILL)
        wait_until(lambda: len(self.workers()) == 2)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.gunicorn.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        [directory] = self.folder.glob("metrics-*")
        return [pid for pid in pids if (directory / f"gauge_liveall_{pid}.db").exists()]

    def reload_a_broken_release(self) -> None:
        (self.folder / "broken").touch()
        self.gunicorn.process.send_signal(signal.SIGHUP)

    def lower_the_workers(self) -> None:
        self.gunicorn.process.send_signal(signal.SIGTTOU)

    def restart(self) -> None:
        self.gunicorn.stop()
        self.start()


def breaks(broken: Broken) -> dict[str, Callable[[], object]]:
    """In this order: the last ones leave nothing to break."""
    return {
        "ConnectionsAreOverdrawn": lambda: None,
        "MetricsAreLost": broken.damage_a_file,
        "ErrorsBurnFast": lambda: broken.ask("/fails"),
        "ErrorsBurnSlowly": lambda: broken.ask("/fails"),
        "AnswersAreSlow": lambda: broken.ask("/waits?seconds=0.4", times=4),
        "EventLoopLags": lambda: broken.ask("/blocks?seconds=0.5", times=2),
        "PoolIsExhausted": broken.hold_connections,
        "RequestsAreShed": broken.hold_connections,
        "DeadlinesAreMissed": lambda: broken.once(lambda: broken.ask("/waits?seconds=9", times=5)),
        "LoginsAreThrottled": broken.guess,
        "RefreshTokenIsReused": lambda: broken.once(broken.reuse_a_token),
        "WorkersCrash": lambda: broken.once(broken.kill_a_worker),
        "WorkerIsStuck": lambda: broken.once(lambda: broken.begin("/blocks?seconds=15")),
        "WorkersAreMissing": lambda: broken.once(broken.lower_the_workers),
        "WorkersDoNotStart": lambda: broken.once(broken.reload_a_broken_release),
        "ServiceRestarts": broken.restart,
        "ServiceIsDown": lambda: broken.once(broken.gunicorn.stop),
    }


@pytest.fixture
def broken(settings: Settings, migrated: None, tmp_path: Path) -> Iterator[Broken]:
    with ExitStack() as running:
        yield Broken(tmp_path, settings, running)
    empty_tables(settings)


@pytest.fixture
def prometheus(broken: Broken, tmp_path: Path) -> Iterator[Prometheus]:
    # Three restarts take longer than the other windows.
    rules = rules_within_seconds().replace("timestamp_seconds[15s]", "timestamp_seconds[2m]")
    with running_prometheus(tmp_path, rules, target("service", broken.metrics_port)) as prometheus:
        yield prometheus


def test_each_alert_fires_and_each_panel_has_data_when_things_are_broken(
    broken: Broken, prometheus: Prometheus
) -> None:
    silent = []
    empty = [query for query in panel_queries() if not re.search("nginx_|app_job", query)]
    ways = breaks(broken)
    assert {alert["alert"] for alert in ALERTS} - BESIDE == ways.keys()
    wait_until(lambda: prometheus.query("up") == [1])
    for alert, way in ways.items():
        broken.is_done = False
        if not fires(prometheus, alert, way):
            silent.append(alert)
        (broken.folder / "broken").unlink(missing_ok=True)
        empty = prometheus.unanswered(empty)
    assert (silent, empty) == ([], [])


def fires(prometheus: Prometheus, alert: str, way: Callable[[], object]) -> bool:
    until = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < until:
        with suppress(httpx2.TransportError):
            way()
        if prometheus.is_firing(alert):
            return True
        time.sleep(0.2)
    return False
