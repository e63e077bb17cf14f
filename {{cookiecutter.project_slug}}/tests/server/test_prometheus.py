"""A real Prometheus reads a real service, while its workers are replaced and killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.server.test_metrics import CLIENTS, Serve, Service, load, serve
from tests.servers import find_binary, running, wait_until
from tests.test_observability import FOLDER, queries

__all__ = ["serve"]

pytestmark = pytest.mark.system

CONFIGURATION = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["RULES"]
scrape_configs:
  - job_name: service
    static_configs: [{targets: ["TARGET"]}]
"""
# Without nginx, a certificate, a database or anything wrong.
MAY_BE_EMPTY = (
    "nginx_",
    "probe_",
    "login_",
    "pool_busy",
    "app_sql",
    "pool_wait",
    "shed",
    "ends_total",
    " > ",
    " < ",
    "== 0",
)


class Prometheus:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1/query"

    def query(self, text: str) -> list[float]:
        answer = httpx2.get(self.url, params={"query": text}, timeout=10).json()
        assert answer["status"] == "success", (text, answer)
        return [float(result["value"][1]) for result in answer["data"]["result"]]


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve()


@pytest.fixture
def prometheus(service: Service, tmp_path: Path) -> Iterator[Prometheus]:
    port, target = free_port(), service.url.removeprefix("http://").removesuffix("/metrics")
    text = CONFIGURATION.replace("RULES", str(FOLDER / "rules.yaml")).replace("TARGET", target)
    (tmp_path / "prometheus.yaml").write_text(text)
    options = [
        f"--config.file={tmp_path}/prometheus.yaml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running([find_binary("prometheus"), *options], port):
        yield Prometheus(port)


def test_prometheus_has_what_the_clients_sent(service: Service, prometheus: Prometheus) -> None:
    with load(service) as results:
        service.gunicorn.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.ends("reloaded") >= 2)
        os.kill(service.processes("worker")[0], signal.SIGKILL)
        wait_until(lambda: service.ends("crashed") >= 1)
    count = 'sum(http_server_request_duration_seconds_count{route="/version"})'
    wait_until(lambda: prometheus.query(count) == [service.counted()])
    assert results[True] <= prometheus.query(count)[0] <= results.total()
    assert results[False] <= CLIENTS
    wait_until(lambda: not unanswered(prometheus))


def unanswered(prometheus: Prometheus) -> list[str]:
    """Queries of rules and dashboards without data, though nothing says why."""
    texts = [
        text.replace("$__rate_interval", "1m").replace("$job", "service") for text in queries()
    ]
    expected = [text for text in texts if not any(part in text for part in MAY_BE_EMPTY)]
    return [text for text in expected if not prometheus.query(text)]
