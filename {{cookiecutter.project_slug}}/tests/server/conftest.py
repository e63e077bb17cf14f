"""Starts real gunicorn with the small app of `worker_app.py`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import ROOT, Gunicorn, start_gunicorn

CONFIGURATION = f"""
exec(open({str(ROOT / "gunicorn.conf.py")!r}).read())

def worker_exit(server, worker):
    print("worker_exit", worker.pid, flush=True)
"""
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "LOG_FORMAT": "console",
    "SECRET_KEY": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
}

Start = Callable[..., Gunicorn]


def launch(directory: Path, *arguments: str, **environment: str) -> Gunicorn:
    (directory / "gunicorn.conf.py").write_text(CONFIGURATION)
    application = "tests.server.worker_app:create_app()"
    return start_gunicorn(directory, ENVIRONMENT | environment, *arguments, application)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as running:

        def start(*arguments: str, wait: bool = True, **environment: str) -> Gunicorn:
            gunicorn = running.enter_context(launch(tmp_path, *arguments, **environment))
            if wait:
                gunicorn.wait_until_ready()
            return gunicorn

        yield start
