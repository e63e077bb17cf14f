"""Real gunicorn: a reload and a broken release never leave the service without a worker."""

import re
import signal
from pathlib import Path

import pytest

from tests.server.conftest import Start
from tests.servers import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.system


def test_old_worker_answers_when_a_reload_starts_slowly(start: Start) -> None:
    gunicorn = start(BOOT_SECONDS="2")
    old = gunicorn.worker_pid()
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gunicorn.log().count("Waiting for application startup") == 2)
    assert gunicorn.worker_pid() == old
    wait_until(lambda: gunicorn.worker_pid() != old)
    assert gunicorn.log().count("startup complete") == 2


def test_old_worker_stays_when_the_new_release_is_broken(start: Start) -> None:
    gunicorn = start()
    old = gunicorn.worker_pid()
    (gunicorn.directory / "broken").touch()
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "This worker cannot start" in gunicorn.log())
    assert gunicorn.worker_pid() == old


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("SERVER_BACKLOG=many", "SERVER_BACKLOG: Input should be a valid integer"),
        ("UVICORN_PORT=80", "UVICORN_PORT has no effect behind gunicorn"),
    ],
)
def test_master_stays_when_a_reload_reads_broken_settings(
    start: Start, mistake: str, sentence: str
) -> None:
    gunicorn = start()
    old = gunicorn.worker_pid()
    (gunicorn.directory / ".env").write_text(mistake)
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: sentence in gunicorn.log())
    wait_until(lambda: gunicorn.worker_pid() != old)


def test_service_does_not_start_when_the_first_release_is_broken(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    gunicorn = start(wait=False, WEB_CONCURRENCY="2")
    assert gunicorn.process.wait(DEADLINE_SECONDS) == 3
    assert "Reason: Worker failed to boot." in gunicorn.log()


def test_service_does_not_start_when_a_setting_is_wrong(start: Start) -> None:
    gunicorn = start(wait=False, SERVER_BACKLOG="many")
    assert gunicorn.process.wait(DEADLINE_SECONDS) == 1
    assert "Traceback" not in gunicorn.log()


def test_successor_serves_first_when_a_worker_has_answered_enough(start: Start) -> None:
    gunicorn = start(SERVER_MAX_REQUESTS="20", SERVER_MAX_REQUESTS_JITTER="0")
    first = gunicorn.worker_pid()
    wait_until(lambda: gunicorn.worker_pid() != first)
    wait_until(lambda: "Application shutdown complete" in gunicorn.log())
    started, *_ = re.finditer("startup complete.*startup complete", gunicorn.log(), re.DOTALL)
    assert started.end() < gunicorn.log().index("Leaving with")


def test_worker_stays_when_its_successor_cannot_start(start: Start) -> None:
    gunicorn = start(SERVER_MAX_REQUESTS="20", SERVER_MAX_REQUESTS_JITTER="0")
    first = gunicorn.worker_pid()
    (gunicorn.directory / "broken").touch()
    wait_until(lambda: gunicorn.readiness() == 200 and "This worker cannot start" in gunicorn.log())
    assert gunicorn.worker_pid() == first
