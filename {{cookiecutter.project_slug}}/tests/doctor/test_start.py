"""The log says once at the start what is wrong in production."""

from pathlib import Path

import pytest

from app.settings import Settings
from tests.servers import SERVICE, service_environment, start_gunicorn, wait_until

pytestmark = pytest.mark.system
SAID = "In production: "


def test_master_says_once_what_is_wrong_in_production(settings: Settings, tmp_path: Path) -> None:
    environment = service_environment(settings) | {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
        "WEB_CONCURRENCY": "2",
        "PUBLIC_URL": "http://service.example",
    }
    with start_gunicorn(tmp_path, environment, *SERVICE) as gunicorn:
        gunicorn.wait_until_ready()
        wait_until(lambda: SAID in gunicorn.log())
        [line] = [line for line in gunicorn.log().splitlines() if SAID in line]
    assert '"level":"error"' in line
    assert "PUBLIC_URL is http://service.example" in line
    assert "There is no mail server." in line


def test_nothing_is_said_in_development(settings: Settings, tmp_path: Path) -> None:
    with start_gunicorn(tmp_path, service_environment(settings), *SERVICE) as gunicorn:
        gunicorn.wait_until_ready()
    assert SAID not in gunicorn.log()
