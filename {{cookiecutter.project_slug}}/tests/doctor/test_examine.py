"""The doctor passes on the shipped files and catches each timeout that is broken by hand."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from doctor.examine import examine_files
from doctor.finding import Severity
from doctor.settings import AllSettings
from manage.cli import main
from tests.doctor.conftest import edit, find_mistakes

COMPOSE = "deploy/compose/compose.yaml"
DEPLOYMENT = "deploy/kubernetes/base/deployment.yaml"
PASSWORD = "pR4kx9vTq2LmZ7"
SECRET = "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E"
PROXY = "deploy/nginx/http/proxy.conf"
LAST_REQUEST = "SERVER_LAME_DUCK_SECONDS + REQUEST_DEADLINE_SECONDS"


def test_shipped_configuration_has_no_errors(service: Path) -> None:
    assert [one for one in find_mistakes(service) if one.severity == Severity.ERROR] == []


@pytest.mark.parametrize(
    ("name", "pattern", "text", "names"),
    [
        (PROXY, "^proxy_read_timeout 30s", "proxy_read_timeout 20s", {"REQUEST_DEADLINE_SECONDS"}),
        (
            PROXY,
            "^proxy_read_timeout 30s",
            "proxy_read_timeout 60s",
            {"proxy_read_timeout"},
        ),
        (
            PROXY,
            "^proxy_connect_timeout 5s",
            "proxy_connect_timeout 30s",
            {"proxy_connect_timeout"},
        ),
        (
            PROXY,
            "^proxy_next_upstream_timeout 10s",
            "proxy_next_upstream_timeout 30s",
            {"proxy_next_upstream_timeout"},
        ),
        (
            PROXY,
            r"^( +)keepalive_timeout \w+",
            r"\1keepalive_timeout 75s",
            {"keepalive_timeout of upstream"},
        ),
        (
            "deploy/nginx/http/client.conf",
            "^keepalive_timeout 75s",
            "keepalive_timeout 60s",
            {"LOAD_BALANCER_TIMEOUT_SECONDS"},
        ),
        (
            "deploy/nginx/nginx.conf",
            "^worker_shutdown_timeout 35s",
            "worker_shutdown_timeout 30s",
            {"proxy_read_timeout"},
        ),
        (
            "deploy/nginx/server/service.conf",
            "proxy_read_timeout 1h",
            "proxy_read_timeout 10s",
            {"UVICORN_WS_PING_INTERVAL"},
        ),
        ("gunicorn.conf.py", "^keepalive = .*", "keepalive = 2", {"keepalive_timeout of upstream"}),
        (
            "gunicorn.conf.py",
            "^graceful_timeout = .*",
            "graceful_timeout = 29",
            {LAST_REQUEST},
        ),
        (
            "gunicorn.conf.py",
            "^graceful_timeout = .*",
            "graceful_timeout = 45",
            {"SERVER_GRACEFUL_TIMEOUT_SECONDS"},
        ),
        (
            "gunicorn.conf.py",
            "^timeout = .*",
            "timeout = 0",
            {"SERVER_TIMEOUT_SECONDS is 0."},
        ),
        (
            COMPOSE,
            r"(gunicorn's graceful_timeout[^\n]*\n +stop_grace_period:) 40s",
            r"\1 30s",
            {"SERVER_GRACEFUL_TIMEOUT_SECONDS"},
        ),
        (
            COMPOSE,
            r"(SIGQUIT\n +stop_grace_period:) 40s",
            r"\1 35s",
            {"worker_shutdown_timeout"},
        ),
        (
            COMPOSE,
            "^( +)ENVIRONMENT: production",
            r"\g<0>\n\1REQUEST_DEADLINE_SECONDS: 29",
            {LAST_REQUEST},
        ),
        (
            "deploy/systemd/app@.service",
            "^TimeoutStopSec=40s",
            "TimeoutStopSec=30s",
            {"SERVER_GRACEFUL_TIMEOUT_SECONDS"},
        ),
        (DEPLOYMENT, r'\[sleep, "7"\]', '[sleep, "15"]', {"SERVER_GRACEFUL_TIMEOUT_SECONDS"}),
        (
            DEPLOYMENT,
            "terminationGracePeriodSeconds: 45",
            "terminationGracePeriodSeconds: 37",
            {"SERVER_GRACEFUL_TIMEOUT_SECONDS", "worker_shutdown_timeout"},
        ),
        (
            DEPLOYMENT,
            r"(path: /readyz[^}]*}(?:\n[^\n]*){2}\n +timeoutSeconds:) 2",
            r"\1 1",
            {"READY_WITHIN_SECONDS"},
        ),
    ],
)
def test_order_is_caught_when_a_file_breaks_it(
    service: Path, name: str, pattern: str, text: str, names: set[str]
) -> None:
    before = set(find_mistakes(service))
    edit(service, name, pattern, text)
    found = set(find_mistakes(service)) - before
    assert {one.what.partition(" (")[0] for one in found} == names
    assert {one.check for one in found} == {"timeouts"}
    assert all(one.where.startswith(name) for one in found)


def test_order_is_caught_when_nginx_outlives_its_container(service: Path) -> None:
    if not any((service / name).is_file() for name in (COMPOSE, DEPLOYMENT)):
        pytest.skip("nginx runs in no container here")
    name = "deploy/nginx/nginx.conf"
    edit(service, name, "^worker_shutdown_timeout 35s", "worker_shutdown_timeout 40s")
    found = [one for one in find_mistakes(service) if one.check == "timeouts"]
    assert {one.where.partition(":")[0] for one in found} == {name}


@pytest.mark.parametrize(
    ("setting", "seconds", "names"),
    [
        ("DATABASE_POOL_TIMEOUT_SECONDS", 15, {"DATABASE_POOL_TIMEOUT_SECONDS"}),
        ("DATABASE_CONNECT_TIMEOUT_SECONDS", 25, {"DATABASE_CONNECT_TIMEOUT_SECONDS"}),
        ("LOCK_TIMEOUT_SECONDS", 15, {"LOCK_TIMEOUT_SECONDS"}),
        ("STATEMENT_TIMEOUT_SECONDS", 25, {"STATEMENT_TIMEOUT_SECONDS"}),
        (
            "REQUEST_DEADLINE_SECONDS",
            15,
            {"STATEMENT_TIMEOUT_SECONDS", "DATABASE_COMMAND_TIMEOUT_SECONDS"},
        ),
        ("REQUEST_DEADLINE_SECONDS", 29, {LAST_REQUEST}),
        (
            "IDLE_IN_TRANSACTION_SESSION_TIMEOUT_SECONDS",
            25,
            {"REQUEST_DEADLINE_SECONDS"},
        ),
        ("LOAD_BALANCER_TIMEOUT_SECONDS", 30, {"proxy_read_timeout"}),
        ("LOAD_BALANCER_TIMEOUT_SECONDS", 75, {"LOAD_BALANCER_TIMEOUT_SECONDS"}),
        ("UVICORN_WS_PING_INTERVAL", 3600, {"UVICORN_WS_PING_INTERVAL"}),
        ("SERVER_LAME_DUCK_SECONDS", 2, {"keepalive_timeout of upstream"}),
        ("SERVER_LAME_DUCK_SECONDS", 4, {LAST_REQUEST}),
        ("SERVER_GRACEFUL_TIMEOUT_SECONDS", 29, {LAST_REQUEST}),
        ("SERVER_KEEPALIVE_SECONDS", 2, {"keepalive_timeout of upstream"}),
        ("SERVER_TIMEOUT_SECONDS", 10, {"proxy_next_upstream_timeout"}),
        (
            "SERVER_TIMEOUT_SECONDS",
            3,
            {"proxy_next_upstream_timeout", "SERVER_TIMEOUT_SECONDS is 3."},
        ),
    ],
)
def test_order_is_caught_when_a_setting_breaks_it(
    service: Path, monkeypatch: pytest.MonkeyPatch, setting: str, seconds: int, names: set[str]
) -> None:
    before = set(find_mistakes(service))
    monkeypatch.setenv(setting, str(seconds))
    found = set(find_mistakes(service)) - before
    assert {one.what.partition(" (")[0] for one in found} == names


def doctor(*arguments: str, **settings: str) -> Result:
    """In the folder of the service, with a database that is not there."""
    away = {"DATABASE_URL": f"postgresql://app:{PASSWORD}@127.0.0.1:1/app", "SECRET_KEY": SECRET}
    return CliRunner().invoke(main, ["doctor", *arguments], env=away | settings)


def test_report_is_json_and_has_no_secret_when_the_database_is_away(service: Path) -> None:
    result = doctor("--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["errors"] == sum(one["severity"] == "error" for one in report["findings"]) == 1
    assert report["findings"][0]["check"] == "database"
    assert set(report["findings"][0]) == {"severity", "check", "what", "where", "why", "fix"}
    assert not {PASSWORD, SECRET} & set((result.stdout + result.stderr).replace('"', " ").split())
    assert PASSWORD not in result.stdout + result.stderr


def test_report_is_one_line_for_each_finding(service: Path) -> None:
    lines = doctor().stdout.splitlines()
    assert lines[-1].startswith("1 error, ")
    assert all(line.startswith(("error: ", "warning: ", "note: ")) for line in lines[:-1])


def test_missing_files_are_named(service: Path) -> None:
    shutil.rmtree(service / "deploy")
    result = doctor("--json")
    notes = [one for one in json.loads(result.stdout)["findings"] if one["severity"] == "note"]
    assert [one["where"] for one in notes] == ["deploy"]
    assert result.stderr == ""


def test_doctor_does_without_its_linters_when_it_runs_in_the_image(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "doctor.files", None)
    monkeypatch.setattr("doctor.examine.find_spec", lambda _name: None)
    findings = examine_files(service, AllSettings.load())
    assert [(one.severity, one.where) for one in findings] == [(Severity.NOTE, "deploy/")]


def test_invalid_settings_are_a_finding(service: Path) -> None:
    result = doctor("--json", SECRET_KEY="hunter2")
    [finding] = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["check"]) == (1, "settings")
    assert "SECRET_KEY" in finding["what"]
    assert "hunter2" not in result.stdout


def test_everybody_may_be_trusted_when_systemd_holds_a_unix_socket(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    has_socket = (service / "deploy/systemd/app.socket").is_file()
    assert has_socket != ("trusted proxies" in {one.check for one in find_mistakes(service)})


def test_dot_env_is_reported_when_others_can_read_it(service: Path) -> None:
    (service / ".env").touch(mode=0o644)
    assert [one.where for one in find_mistakes(service) if one.check == "secrets"] == [".env"]
