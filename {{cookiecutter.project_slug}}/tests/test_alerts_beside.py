"""The alerts about what runs beside gunicorn fire too: the jobs, nginx, its certificate."""

import os
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from app.settings import Settings
from development import nginx
from development.ports import free_port
from tests.jobs.test_process import Start, enqueue, job, lines, own_settings, project, start
from tests.prometheus import rules_within_seconds, running_prometheus, target
from tests.servers import ROOT, find_binary, running, running_nginx, wait_until
from tests.test_nginx_tls import ports
from tests.test_observability import FOLDER, panel_queries

__all__ = ["own_settings", "ports", "project", "start"]

pytestmark = pytest.mark.system


def test_alert_fires_and_panels_have_data_when_a_job_has_failed(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    start(JOBS_METRICS_PORT=str(port))
    with running_prometheus(tmp_path, rules_within_seconds(), target("jobs", port)) as prometheus:
        wait_until(lambda: prometheus.query('app_jobs{status="failed"}') == [0])
        assert not prometheus.is_firing("JobsFail")
        enqueue(own_settings, "test.failing", {})
        wait_until(lambda: prometheus.is_firing("JobsFail"))
        # A rate is one of increases, and the first run has made its series.
        enqueue(own_settings, "test.failing", {})
        panels = [query for query in panel_queries() if "app_job" in query]
        wait_until(lambda: not prometheus.unanswered(panels))


def test_alerts_fire_when_jobs_wait_and_when_nobody_runs_them(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    process = start(JOBS_METRICS_PORT=str(port), JOBS_CONCURRENCY="1")
    with running_prometheus(tmp_path, rules_within_seconds(), target("jobs", port)) as prometheus:
        enqueue(own_settings, "test.slow", job(tmp_path, 1, seconds=300))
        wait_until(lambda: lines(tmp_path) == ["begin 1"])
        assert not prometheus.is_firing("JobsWait")
        due = datetime.now(UTC) - timedelta(minutes=6)
        enqueue(own_settings, "test.slow", job(tmp_path, 2, seconds=0), at=due)
        wait_until(lambda: prometheus.is_firing("JobsWait"))
        assert not prometheus.is_firing("ServiceIsDown")
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: prometheus.is_firing("ServiceIsDown"))


def test_alert_fires_when_nginx_is_stopped(tmp_path: Path) -> None:
    binary = find_binary("prometheus-nginx-exporter")
    port, status_port, exporter_port = free_port(), free_port(), free_port()
    nginx.prepare(tmp_path, port, app_port=free_port())
    local = next((ROOT / "deploy").rglob("nginx-site/local.conf")).read_text()
    local = re.sub(r"listen .*;", f"listen 127.0.0.1:{status_port};", local)
    (tmp_path / "site/local.conf").write_text(local)
    status = f"--nginx.scrape-uri=http://127.0.0.1:{status_port}/nginx_status"
    exporter = [binary, status, f"--web.listen-address=127.0.0.1:{exporter_port}"]
    scraped = target("nginx", exporter_port)
    with (
        running_nginx(tmp_path, port),
        running(exporter, exporter_port),
        running_prometheus(tmp_path, rules_within_seconds(), scraped) as prometheus,
    ):
        panels = [query for query in panel_queries() if "nginx_" in query]
        wait_until(lambda: not prometheus.unanswered(panels))
        assert not prometheus.is_firing("NginxIsDown")
        os.kill(int((tmp_path / "nginx.pid").read_text()), signal.SIGTERM)
        wait_until(lambda: prometheus.is_firing("NginxIsDown"))


def test_alert_fires_when_the_certificate_ends_within_two_weeks(
    ports: tuple[int, int], tmp_path: Path
) -> None:
    binary, exporter_port = find_binary("prometheus-blackbox-exporter"), free_port()
    # As Debian ships it, but for a certificate that nobody has signed and nginx on IPv4 alone.
    http = {"preferred_ip_protocol": "ip4", "tls_config": {"insecure_skip_verify": True}}
    modules = {"http_2xx": {"prober": "http", "http": http}}
    (tmp_path / "blackbox.yaml").write_text(yaml.safe_dump({"modules": modules}))
    exporter = [
        binary,
        f"--config.file={tmp_path}/blackbox.yaml",
        f"--web.listen-address=127.0.0.1:{exporter_port}",
    ]
    [example] = re.findall(
        r"```yaml\n(- job_name: certificate\n.*?)```", (FOLDER / "README.md").read_text(), re.S
    )
    example = example.replace("shop.example", f"localhost:{ports[1]}")
    jobs = yaml.safe_load(example.replace("127.0.0.1:9115", f"127.0.0.1:{exporter_port}"))
    with (
        running(exporter, exporter_port),
        running_prometheus(tmp_path, rules_within_seconds(), *jobs) as prometheus,
    ):
        wait_until(lambda: prometheus.is_firing("CertificateExpires"))
