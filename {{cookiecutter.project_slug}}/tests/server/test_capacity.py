"""The plan for each machine, and the budget of connections."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from manage.cli import main
from server.capacity import plan_capacity, plan_pool_size
from server.machine import Machine
from server.settings import ServerSettings
from tests.servers import ROOT

MIB = 2**20


def make_settings(**values: object) -> ServerSettings:
    given = {
        "database_url": "postgresql://app@127.0.0.1/app",
        "secret_key": "0123456789abcdefghijklmnopqrstuv",
    }
    return ServerSettings.model_validate(given | values)


@pytest.mark.parametrize(
    ("cores", "quota", "workers"),
    [
        (8, 0.5, 1),
        (8, 1, 2),
        (8, 2.5, 2),
        (8, 4, 4),
        (8, None, 8),
        (1, None, 2),
        (2, 4.0, 2),
    ],
)
def test_workers_follow_the_quota_and_the_affinity(
    cores: int, quota: float | None, workers: int
) -> None:
    assert plan_capacity(make_settings(), Machine(cores, quota)).workers == workers


# A worker needs 2 x 100 MiB and 2 hashes of 64 MiB, the master 50 MiB.
@pytest.mark.parametrize(("mib", "workers"), [(64, 1), (700, 1), (706, 2), (2048, 6), (8192, 8)])
def test_workers_are_bounded_by_memory(mib: int, workers: int) -> None:
    assert plan_capacity(make_settings(), Machine(8, None, mib * MIB)).workers == workers


@pytest.mark.parametrize(
    ("workers", "replicas", "budget", "pool_size"),
    [(2, 1, 90, 5), (4, 3, 90, 2), (8, 1, 90, 4), (16, 1, 90, 1), (4, 1, 8, 1), (4, 1, 7, 1)],
)
def test_pool_is_the_budget_divided_when_reload_and_listening_are_counted(
    workers: int, replicas: int, budget: int, pool_size: int
) -> None:
    settings = make_settings(replicas=replicas, database_connection_budget=budget)
    assert plan_pool_size(settings, workers) == pool_size


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64, 256])
@pytest.mark.parametrize("replicas", [1, 2, 7])
def test_plan_stays_in_the_budget(cores: int, replicas: int) -> None:
    plan = plan_capacity(make_settings(replicas=replicas), Machine(cores))
    assert plan.connections == replicas * plan.workers * (plan.pool_size + 1) * 2 <= 80


def test_operator_wins_and_is_told() -> None:
    plan = plan_capacity(make_settings(database_pool_size=20), Machine(2), web_concurrency=7)
    assert (plan.workers, plan.pool_size, plan.connections) == (7, 20, 294)
    assert "WEB_CONCURRENCY sets 7 instead of 2" in str(plan)


def test_no_room_for_a_worker_is_a_shortage() -> None:
    plan = plan_capacity(make_settings(), Machine(8, None, 64 * MIB))
    assert plan.shortages == ("64 MiB of memory",)
    assert plan_capacity(make_settings(), Machine(8, None, 700 * MIB)).shortages == ()


def capacity(*options: str, exit_code: int = 0, **environment: str) -> str:
    result = CliRunner().invoke(main, ["capacity", *options], env=environment)
    assert result.exit_code == exit_code, result.output
    return result.output


def test_capacity_fails_when_there_is_no_room() -> None:
    output = capacity(exit_code=1, DATABASE_CONNECTION_BUDGET="1")
    assert "error: 1 connections have no room for a worker" in output


@pytest.mark.system
def test_capacity_is_that_of_the_service_when_its_process_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REPLICAS=2")
    command = [sys.executable, "-c", "input()"]
    environment = {"WEB_CONCURRENCY": "7"}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=subprocess.PIPE) as service:
        asked = [sys.executable, "-c", "from manage.cli import main; main()", "capacity", "--json"]
        asked += ["--pid", str(service.pid)]
        said = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True)
        service.communicate()
    plan = json.loads(said.stdout)
    assert (plan["workers"], plan["connections"]) == (7, 2 * 7 * (plan["pool_size"] + 1) * 2)


def test_capacity_is_printed_as_json() -> None:
    plan = json.loads(capacity("--json", WEB_CONCURRENCY="3", REPLICAS="2"))
    assert plan["workers"] == 3
    assert plan["connections"] == 2 * 3 * (plan["pool_size"] + 1) * 2
    assert plan["connection_budget"] == 80


def test_capacity_is_printed_for_people() -> None:
    assert "workers      3\n" in capacity(WEB_CONCURRENCY="3")
