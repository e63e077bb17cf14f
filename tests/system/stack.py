"""The generated service on real parts: PostgreSQL, gunicorn with two workers, nginx."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from development.ports import free_port
from tests.conftest import own_environment
from tests.servers import answers, running

MAKE_SERVE = ("make", "--no-print-directory", "serve")


@dataclass(frozen=True)
class Stack:
    project: Path
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    environment: dict[str, str]

    @property
    def http_port(self) -> int:
        return int(self.environment["HTTP_PORT"])


@contextmanager
def serve(
    project: Path, uv: str, command: Sequence[str | Path] = MAKE_SERVE, **settings: str
) -> Iterator[Stack]:
    """`make serve`, with its output in a file; stopped as Ctrl-C would."""
    ports = {"APP_PORT": str(free_port()), "HTTP_PORT": str(free_port())}
    # What serves the metrics is a child of the master too, and here its children are counted.
    ports["METRICS_PORT"] = "0"
    environment = own_environment() | {"WEB_CONCURRENCY": "2", "UV": uv} | ports | settings
    url = f"http://127.0.0.1:{environment['HTTP_PORT']}"
    log = project / "serve.log"
    try:
        with running(
            command,
            log,
            lambda: answers(f"{url}/readyz"),
            environment=environment,
            stop_signal=signal.SIGINT,
        ) as process:
            yield Stack(project, process, url, log, environment)
    finally:
        stop_database = [uv, "run", "--quiet", "manage", "database", "stop"]
        subprocess.run(stop_database, cwd=project, env=environment, check=False)
