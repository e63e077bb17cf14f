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
    # The first of them has ended then, which must not end the others.
    wait_until(lambda: gunicorn.log().count("This worker cannot start") == 2)
    assert gunicorn.worker_pid() == old
    assert "main loop" not in gunicorn.log()


def test_second_master_is_refused(start: Start) -> None:
    gunicorn = start()
    worker = gunicorn.worker_pid()
    gunicorn.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "USR2 is refused" in gunicorn.log())
    assert gunicorn.worker_pid() == worker


@pytest.mark.parametrize(
    ("file", "mistake", "sentence"),
    [
        (".env", "SERVER_BACKLOG=many", "SERVER_BACKLOG: Input should be a valid integer"),
        (".env", "DATABASE_POOL_SIZE=many", "DATABASE_POOL_SIZE: Input should be a valid integer"),
        (".env", "UVICORN_PORT=80", "UVICORN_PORT has no effect behind gunicorn"),
        ("gunicorn.conf.py", "workers = (", "SyntaxError: '(' was never closed (gunicorn.conf.py"),
        ("gunicorn.conf.py", "workers = -1", "ValueError"),
        ("gunicorn.conf.py", "worker_class = 'absent'", "RuntimeError"),
        ("gunicorn.conf.py", "bind = '127.0.0.1:1'", "another address needs a restart"),
        ("gunicorn.conf.py", "import time; time.sleep(60)", "it ended with status 14"),
    ],
)
def test_workers_stay_when_a_reload_meets_a_mistake(
    start: Start, file: str, mistake: str, sentence: str
) -> None:
    gunicorn = start()
    old = gunicorn.worker_pid()
    with (gunicorn.directory / file).open("a") as broken:
        broken.write(mistake)
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "Nothing is reloaded" in gunicorn.log())
    [line] = [line for line in gunicorn.log().splitlines() if "Nothing is reloaded" in line]
    assert sentence in line
    assert gunicorn.worker_pid() == old
    assert "Traceback" not in gunicorn.log()


def test_workers_stay_when_a_file_breaks_after_it_was_tried(start: Start) -> None:
    gunicorn = start()
    old = gunicorn.worker_pid()
    with (gunicorn.directory / "gunicorn.conf.py").open("a") as broken:
        broken.write("import os; os.path.exists('tried') and 1 / 0; open('tried', 'w').close()")
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the workers go on: ZeroDivisionError" in gunicorn.log())
    assert gunicorn.worker_pid() == old


@pytest.mark.parametrize(
    ("place", "in_stacks"), [("lifespan", "LifespanOn.main()"), ("create_app", "in create_app")]
)
def test_old_worker_stays_when_the_new_release_hangs(
    start: Start, place: str, in_stacks: str
) -> None:
    gunicorn = start(SERVER_BOOT_SECONDS="10")
    old = gunicorn.worker_pid()
    (gunicorn.directory / f"hanging {place}").touch()
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "did not start within 10 s (SERVER_BOOT_SECONDS)" in gunicorn.log())
    wait_until(lambda: in_stacks in gunicorn.log())
    assert gunicorn.worker_pid() == old
    (gunicorn.directory / f"hanging {place}").unlink()
    wait_until(lambda: gunicorn.worker_pid() != old)


def test_somebody_serves_when_a_worker_is_taken_away_during_a_reload(start: Start) -> None:
    gunicorn = start(WEB_CONCURRENCY="2", BOOT_SECONDS="2")
    wait_until(lambda: gunicorn.log().count("startup complete") == 2)
    gunicorn.process.send_signal(signal.SIGHUP)
    gunicorn.process.send_signal(signal.SIGTTOU)
    # Two old workers and a new one; those that leave answer 503 for a moment.
    wait_until(lambda: gunicorn.log().count("Leaving with") == 3)
    wait_until(lambda: gunicorn.readiness() == 200)


def test_starting_worker_goes_first_when_one_is_taken_away(start: Start) -> None:
    gunicorn = start(BOOT_SECONDS="2")
    old = gunicorn.worker_pid()
    gunicorn.process.send_signal(signal.SIGTTIN)
    wait_until(lambda: gunicorn.log().count("Waiting for application startup") == 2)
    gunicorn.process.send_signal(signal.SIGTTOU)
    wait_until(lambda: "Handling signal: ttou" in gunicorn.log())
    gunicorn.process.send_signal(signal.SIGTTOU)
    wait_until(lambda: gunicorn.log().count("Handling signal: ttou") == 2)
    assert gunicorn.worker_pid() == old
    assert "Leaving with" not in gunicorn.log()


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
