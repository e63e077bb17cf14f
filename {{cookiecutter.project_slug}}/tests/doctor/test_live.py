"""What the doctor asks of a live database, of the kernel and of the plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import Settings
from doctor.database import Server, check_revision, check_server, read_server
from doctor.finding import Severity
from doctor.kernel import check_kernel
from doctor.settings import AllSettings, check_neighbours, check_plan
from server.capacity import Plan, plan_capacity
from server.machine import Machine

ROOT = Path(__file__).parent.parent.parent
GOOD = Server(
    settings={
        "max_connections": 100,
        "superuser_reserved_connections": 3,
        "reserved_connections": 0,
        "server_version_num": 170_000,
        "statement_timeout": 15_000,
        "lock_timeout": 5_000,
        "idle_in_transaction_session_timeout": 30_000,
    },
    connections=4,
    revisions=frozenset(),
)


@pytest.fixture
def server_settings(settings: Settings) -> AllSettings:
    return AllSettings.model_validate(settings.model_dump())


@pytest.fixture
def plan(server_settings: AllSettings) -> Plan:
    return plan_capacity(server_settings, Machine(2))


async def test_live_database_is_read(engine: AsyncEngine, server_settings: AllSettings) -> None:
    server, findings = await read_server(server_settings)
    assert findings == []
    assert server is not None
    assert server.settings["statement_timeout"] == 15_000
    assert check_revision(ROOT, server) == []


async def test_unreachable_database_is_one_finding(server_settings: AllSettings) -> None:
    away = server_settings.model_copy(
        update={"database_url": "postgresql://app:hunter2@127.0.0.1:1/app"}
    )
    server, [finding] = await read_server(away)
    assert (server, finding.check) == (None, "database")
    assert "hunter2" not in str(finding)


def test_good_server_has_no_findings(server_settings: AllSettings, plan: Plan) -> None:
    assert check_server(GOOD, server_settings, plan) == []


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("max_connections", 29, Severity.ERROR),
        ("max_connections", 60, Severity.WARNING),
        ("superuser_reserved_connections", 10, Severity.WARNING),
        ("reserved_connections", 80, Severity.ERROR),
        ("server_version_num", 140_000, Severity.WARNING),
        ("statement_timeout", 0, Severity.ERROR),
        ("lock_timeout", 60_000, Severity.ERROR),
    ],
)
def test_server_setting_is_caught(
    server_settings: AllSettings, plan: Plan, name: str, value: int, severity: Severity
) -> None:
    server = replace(GOOD, settings={**GOOD.settings, name: value})
    assert [one.severity for one in check_server(server, server_settings, plan)] == [severity]


def test_server_behind_pgbouncer_needs_the_timeouts_and_no_room_for_every_client(
    server_settings: AllSettings, plan: Plan
) -> None:
    pooled = server_settings.model_copy(update={"database_pgbouncer": True})
    small = {**GOOD.settings, "max_connections": 29}
    assert check_server(replace(GOOD, settings=small), pooled, plan) == []
    endless = replace(GOOD, settings={**small, "statement_timeout": 0})
    [finding] = check_server(endless, pooled, plan)
    assert finding.where == "STATEMENT_TIMEOUT_SECONDS"


def test_database_is_behind_when_it_has_no_revision() -> None:
    [finding] = check_revision(ROOT, GOOD)
    assert finding.severity == Severity.ERROR
    assert "make migrate" in finding.fix


def test_plan_over_the_budget_is_caught(server_settings: AllSettings) -> None:
    greedy = server_settings.model_copy(update={"database_pool_size": 50})
    plan = plan_capacity(greedy, Machine(2), web_concurrency=4)
    findings = check_plan(plan, planned_workers=2)
    assert [one.check for one in findings] == ["connection budget", "capacity"]


@pytest.mark.parametrize(
    ("backlog", "open_files", "where"),
    [(2048, 1024, ["ulimit -n"]), (8192, 16_384, ["SERVER_BACKLOG"]), (2048, 16_384, [])],
)
def test_kernel_limit_is_caught(
    tmp_path: Path, backlog: int, open_files: int, where: list[str]
) -> None:
    file = tmp_path / "proc/sys/net/core/somaxconn"
    file.parent.mkdir(parents=True)
    file.write_text("4096\n")
    assert [one.where for one in check_kernel(tmp_path, backlog, open_files)] == where


@pytest.mark.parametrize(
    ("line", "checks"), [("", ["ports"]), ("METRICS_PORT=9465\n", []), ("METRICS_PORT=0\n", [])]
)
def test_port_of_the_metrics_is_caught_when_another_service_has_it(
    server_settings: AllSettings, tmp_path: Path, line: str, checks: list[str]
) -> None:
    for file in ("run/store.socket", "etc/store/app.env", "etc/unrelated/app.env"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(line)
    assert [one.check for one in check_neighbours(server_settings, tmp_path)] == checks
