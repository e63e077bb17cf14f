"""Starts real gunicorn with the small app of `worker_app.py`; copies the real files to break."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port

ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 20
CONFIGURATION = f"""
exec(open({str(ROOT / "gunicorn.conf.py")!r}).read())

def worker_exit(server, worker):
    print("worker_exit", worker.pid, flush=True)
"""
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "LOG_FORMAT": "console",
    "PYTHONPATH": str(ROOT),
    "SECRET_KEY": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
    "WEB_CONCURRENCY": "1",
}


@dataclass
class Gunicorn:
    process: subprocess.Popen[bytes]
    directory: Path
    port: int
    client: httpx2.Client
    pool: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(path)

    def begin(self, path: str) -> Future[httpx2.Response]:
        """The answer to come of a request that has reached the app."""
        answer = self.pool.submit(self.get, path)
        wait_until(lambda: f"begins {path}" in self.log())
        return answer

    def worker_pid(self) -> int:
        return int(self.get("/pid").text)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True

    def readiness(self) -> int | None:
        """None when the connection is refused."""
        try:
            return self.get("/readyz").status_code
        except httpx2.ConnectError:
            return None

    def answers(self) -> bool:
        try:
            return self.get("/pid").is_success
        except httpx2.TransportError:
            return False

    def stop(
        self, number: signal.Signals = signal.SIGTERM, within_seconds: float = DEADLINE_SECONDS
    ) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_seconds)

    def end(self) -> None:
        try:
            if self.process.poll() is None:
                # A worker that is just being forked misses it, and gunicorn kills it after 30 s.
                self.stop(signal.SIGQUIT, within_seconds=40)
        finally:
            self.process.kill()  # its workers then leave by themselves
            self.process.wait()
            self.pool.shutdown()
            self.client.close()


Start = Callable[..., Gunicorn]


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < until, "the deadline passed"
        time.sleep(0.05)


def launch(directory: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> Gunicorn:
    (directory / "gunicorn.conf.py").write_text(CONFIGURATION)
    port = free_port()
    command = (sys.executable, "-m", "gunicorn", *arguments, "tests.server.worker_app:create_app()")
    variables = os.environ | ENVIRONMENT | {"APP_PORT": str(port)} | environment
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=variables, stdout=log, stderr=subprocess.STDOUT
        )
    return Gunicorn(process, directory, port, new_client(port))


def new_client(port: int) -> httpx2.Client:
    """Without kept connections: each request may reach another worker."""
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{port}",
        limits=httpx2.Limits(max_keepalive_connections=0),
        timeout=DEADLINE_SECONDS,
        verify=False,  # plain HTTP; saves making a TLS context
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(*arguments: str, wait: bool = True, **environment: str) -> Gunicorn:
        gunicorn = launch(tmp_path, arguments, environment)
        started.append(gunicorn)
        if wait:
            wait_until(gunicorn.answers)
        return gunicorn

    yield start
    for gunicorn in started:
        gunicorn.end()
