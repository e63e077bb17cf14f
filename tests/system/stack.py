"""The generated service on real parts: PostgreSQL, gunicorn with two workers, nginx."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.conftest import own_environment
from tests.ports import free_port

# A cold start on two busy cores, with the packages in uv's cache.
READY_WITHIN_SECONDS = 120
# The order of timeouts gives a worker 30 s; PostgreSQL and nginx are faster.
STOP_WITHIN_SECONDS = 60
MAKE_SERVE = ("make", "--no-print-directory", "serve")


@dataclass(frozen=True)
class Stack:
    project: Path
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    environment: dict[str, str]


@contextmanager
def serve(
    project: Path, uv: str, command: Sequence[str | Path] = MAKE_SERVE, **settings: str
) -> Iterator[Stack]:
    """`make serve`, with its output in a file; stopped as Ctrl-C would."""
    ports = {"APP_PORT": str(free_port()), "HTTP_PORT": str(free_port())}
    environment = own_environment() | {"WEB_CONCURRENCY": "2", "UV": uv} | ports | settings
    log = project / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    url = f"http://127.0.0.1:{environment['HTTP_PORT']}"
    stack = Stack(project, process, url, log, environment)
    try:
        wait_until_ready(stack)
        yield stack
    finally:
        stop(stack)


def wait_until_ready(stack: Stack) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and stack.process.poll() is None:
        with suppress(httpx2.HTTPError):
            if httpx2.get(f"{stack.url}/readyz").status_code == httpx2.codes.OK:
                return
        time.sleep(0.1)
    raise AssertionError(f"the service did not become ready:\n{stack.log.read_text()[-4000:]}")


def stop(stack: Stack) -> None:
    with suppress(ProcessLookupError):
        os.killpg(stack.process.pid, signal.SIGINT)
    try:
        stack.process.wait(STOP_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(stack.process.pid, signal.SIGKILL)
        raise
    finally:
        command = [stack.environment["UV"], "run", "--quiet", "manage", "database", "stop"]
        subprocess.run(command, cwd=stack.project, env=stack.environment, check=False)
