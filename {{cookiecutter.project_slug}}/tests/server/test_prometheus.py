"""A real Prometheus reads a real service, while its workers are replaced and killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus import RULES, Prometheus, running_prometheus, target
from tests.server.test_metrics import CLIENTS, Serve, Service, load, serve
from tests.servers import wait_until

__all__ = ["serve"]

pytestmark = pytest.mark.system


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve(SERVER_MAX_REQUESTS="1000")


@pytest.fixture
def prometheus(service: Service, tmp_path: Path) -> Iterator[Prometheus]:
    scraped = target("service", service.port)
    with running_prometheus(tmp_path, RULES.read_text(), scraped) as prometheus:
        yield prometheus


def test_prometheus_has_what_the_clients_sent(service: Service, prometheus: Prometheus) -> None:
    with load(service) as results:
        # First, while none of them is about to leave.
        os.kill(service.processes("worker")[0], signal.SIGKILL)
        wait_until(lambda: service.ends("crashed") >= 1)
        old = service.processes("worker")
        service.gunicorn.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(old) & set(service.processes("worker")))
        wait_until(lambda: service.ends("recycled") >= 1)
    count = 'sum(http_server_request_duration_seconds_count{route="/version"})'
    wait_until(lambda: prometheus.query(count) == [service.counted()])
    assert results[True] <= prometheus.query(count)[0] <= results.total()
    assert results[False] <= CLIENTS
