"""Processes of the jobs that are killed, told to end, or without a database: no job is lost."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx2
import pytest
from alembic import command
from alembic.config import Config
from procrastinate.types import JSONDict
from pydantic import PostgresDsn

from app.database import Database, create_engine
from app.jobs import repository
from app.settings import Settings
from development import postgres
from development.ports import free_port
from tests.conftest import execute
from tests.jobs import worker  # noqa: F401 (its tasks)
from tests.servers import ROOT, wait_until

pytestmark = pytest.mark.system

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a PostgreSQL of its own, which a test may stop."""
    folder = tmp_path_factory.mktemp("jobs")
    postgres.start(folder)
    yield folder
    postgres.stop(folder)


@pytest.fixture(scope="module")
def own_settings(project: Path, settings: Settings) -> Settings:
    owner = postgres.start(project)
    urls = {
        "database_owner_url": PostgresDsn(owner),
        "database_url": PostgresDsn(postgres.service_address(owner, project)),
    }
    own = settings.model_copy(update=urls)
    config = Config(ROOT / "alembic.ini")
    config.attributes["settings"] = own
    command.upgrade(config, "head")
    return own


@pytest.fixture
def start(own_settings: Settings, tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **changed: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""),
            "DATABASE_URL": str(own_settings.database_url),
            "SECRET_KEY": own_settings.secret_key.get_secret_value(),
            "FOLDER": str(tmp_path),
            "JOBS_POLL_SECONDS": "0.1",
            "JOBS_SILENT_SECONDS": "2",
            "JOBS_METRICS_PORT": "0",
            **changed,
        }
        # Not the .env of the checkout.
        module = [sys.executable, "-m", "tests.jobs.worker", *arguments]
        with (tmp_path / "log").open("ab") as log:
            processes.append(
                subprocess.Popen(
                    module,
                    cwd=tmp_path,
                    env=environment | {"PYTHONPATH": str(ROOT)},
                    stdout=log,
                    stderr=log,
                )
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)
    asyncio.run(ask(own_settings, "DELETE FROM procrastinate_jobs"))


async def ask(settings: Settings, statement: str) -> object:
    url = str(settings.database_url).replace("+asyncpg", "")
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def statuses(settings: Settings) -> object:
    return asyncio.run(
        ask(settings, "SELECT string_agg(status::text, ' ') FROM procrastinate_jobs")
    )


def enqueue(settings: Settings, task: str, *jobs: JSONDict, at: datetime | None = None) -> None:
    async def enqueue() -> None:
        engine = create_engine(settings)
        database = Database(engine, 1, 3)
        async with database.transaction() as session:
            for arguments in jobs:
                await repository.enqueue(session, task, arguments, at)
        await engine.dispose()

    asyncio.run(enqueue())


def lines(folder: Path) -> list[str]:
    (file := folder / "lines").touch()
    return file.read_text().splitlines()


def job(folder: Path, number: int, seconds: float) -> JSONDict:
    return {"folder": str(folder), "number": number, "seconds": seconds}


def replace_killed(start: Start, folder: Path) -> None:
    """Another process, after one that was killed in mid-job."""
    killed = start()
    wait_until(lambda: "begin 1" in lines(folder))
    killed.kill()
    start()


def test_job_runs_again_when_its_process_was_killed(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.slow", job(tmp_path, 1, 0.5))
    replace_killed(start, tmp_path)
    wait_until(lambda: "end 1" in lines(tmp_path))
    assert lines(tmp_path) == ["begin 1", "begin 1", "end 1"]
    wait_until(lambda: statuses(own_settings) is None)


def test_job_that_must_not_run_twice_has_failed_when_its_process_was_killed(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.once", job(tmp_path, 1, 30))
    replace_killed(start, tmp_path)
    wait_until(lambda: statuses(own_settings) == "failed")
    assert lines(tmp_path) == ["begin 1"]


def test_every_job_runs_when_the_database_restarts_below_them(
    start: Start, own_settings: Settings, project: Path, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.slow", *(job(tmp_path, number, 0.3) for number in range(40)))
    for _ in range(2):
        start()
    wait_until(lambda: "end 3" in lines(tmp_path))
    postgres.stop(project)
    # Jobs end while nobody can be told.
    wait_until(lambda: "begin anew" in (tmp_path / "log").read_text())
    postgres.start(project)
    wait_until(lambda: statuses(own_settings) is None)
    counts = Counter(lines(tmp_path))
    assert {counts[f"end {number}"] for number in range(40)} <= {1, 2}


def test_job_runs_again_when_its_end_could_not_be_written(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.slow", job(tmp_path, 1, 1))
    # Nothing but the end of the job meets the lock, and its process lives on.
    start(JOBS_POLL_SECONDS="5", LOCK_TIMEOUT_SECONDS="0.5")
    wait_until(lambda: "begin 1" in lines(tmp_path))
    hold = "DO 'BEGIN LOCK TABLE procrastinate_jobs; PERFORM pg_sleep(2.5); END'"
    execute(str(own_settings.database_owner_url), hold)
    wait_until(lambda: statuses(own_settings) is None)
    assert lines(tmp_path) == ["begin 1", "end 1"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_job_is_finished_when_a_deployment_ends_its_process(
    start: Start, own_settings: Settings, tmp_path: Path, number: int
) -> None:
    enqueue(own_settings, "test.slow", job(tmp_path, 1, 1), job(tmp_path, 2, 0))
    process = start(JOBS_CONCURRENCY="1")
    wait_until(lambda: "begin 1" in lines(tmp_path))
    process.send_signal(number)
    if number == signal.SIGTERM:
        assert process.wait(10) == 0
        assert lines(tmp_path) == ["begin 1", "end 1"]
        assert statuses(own_settings) == "todo"
    else:
        # The same process, anew.
        wait_until(lambda: "end 2" in lines(tmp_path))
        assert process.poll() is None
        assert lines(tmp_path) == ["begin 1", "end 1", "begin 2", "end 2"]


def test_job_is_cancelled_and_runs_again_when_it_takes_too_long_to_end(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.slow", job(tmp_path, 1, 30))
    process = start(JOBS_GRACEFUL_SECONDS="0.2")
    wait_until(lambda: "begin 1" in lines(tmp_path))
    process.terminate()
    assert process.wait(10) == 0
    assert statuses(own_settings) == "todo"


def test_period_has_one_job_when_three_processes_run_and_one_is_killed(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    processes = [start("periodic") for _ in range(3)]
    wait_until(lambda: len(lines(tmp_path)) > 2)
    processes[0].kill()
    wait_until(lambda: len(lines(tmp_path)) > 8)
    moments = [int(line.split()[1]) for line in lines(tmp_path)]
    assert Counter(moments).most_common(1)[0][1] == 1
    assert sorted(moments) == list(range(min(moments), max(moments) + 1))


def test_failure_is_logged_and_counted_without_the_arguments(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    enqueue(own_settings, "test.failing", {})
    enqueue(own_settings, "test.slow", job(tmp_path, 7, 0))
    start(JOBS_METRICS_PORT=str(port))
    wait_until(lambda: statuses(own_settings) == "failed" and "end 7" in lines(tmp_path))

    def metrics() -> str:
        return httpx2.get(f"http://127.0.0.1:{port}/metrics").text

    wait_until(lambda: 'app_jobs{status="failed"} 1.0' in metrics())
    assert re.search(r'app_job_duration_seconds_count\{outcome="failed",.*\} 1\.0', metrics())
    log = (tmp_path / "log").read_text()
    assert '"job":"test.failing"' in log
    assert "RuntimeError: no" in log
    assert str(tmp_path) not in log.replace(str(ROOT), "")


def test_process_ends_with_its_stacks_in_the_log_when_a_job_blocks_the_loop(
    start: Start, own_settings: Settings, tmp_path: Path
) -> None:
    enqueue(own_settings, "test.blocking", {})
    assert start(STUCK_SECONDS="1").wait(20) == 1
    assert "in blocking" in (tmp_path / "log").read_text()
