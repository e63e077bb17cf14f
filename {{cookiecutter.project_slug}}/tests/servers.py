"""Starts real servers on this machine and ends them with the test: gunicorn, nginx, PgBouncer."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2
import pytest

from app.settings import Settings
from development import nginx
from development.ports import free_port

ROOT = Path(__file__).parent.parent
# Two busy cores import the app for seconds; only a test that fails waits that long.
DEADLINE_SECONDS = 60
# gunicorn kills after 30 s who has not left.
STOP_WITHIN_SECONDS = 40
# The arguments of gunicorn for the service itself.
SERVICE = ("--config", str(ROOT / "gunicorn.conf.py"))
# What systemd does between fork and exec: the sockets from 3 on, their number, and for whom.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *sys.argv[2:]])
"""


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < until, "the deadline passed"
        time.sleep(0.05)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


def find_binary(name: str) -> str:
    """Skips the test on a machine without it, or fails where all of them must run."""
    # Debian keeps servers in sbin, which is not on a user's PATH.
    folders = (os.environ.get("PATH", os.defpath), "/usr/sbin", "/opt/homebrew/bin")
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("REQUIRE_SYSTEM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """A program that listens on this port."""
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, f"{command[0]} ended"
        yield
    finally:
        process.terminate()
        process.wait(STOP_WITHIN_SECONDS)


@contextmanager
def running_nginx(folder: Path, port: int) -> Iterator[None]:
    binary = find_binary("nginx")
    nginx.check(binary, folder)
    with running(nginx.command(binary, folder), port):
        yield


@dataclass
class Gunicorn:
    process: subprocess.Popen[bytes]
    directory: Path
    port: int
    client: httpx2.Client
    pool: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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

    def readiness(self) -> int | None:
        """None when nobody listens: the connection is refused, or reset if it came just before."""
        try:
            return self.get("/readyz").status_code
        except (httpx2.ConnectError, httpx2.ReadError):
            return None

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or self.readiness() == httpx2.codes.OK)
        assert self.process.poll() is None, self.log()

    def stop(
        self, number: signal.Signals = signal.SIGTERM, within_seconds: float = DEADLINE_SECONDS
    ) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            if self.process.poll() is None:
                # A worker that is just being forked misses it, and gunicorn kills it after 30 s.
                self.stop(signal.SIGQUIT, STOP_WITHIN_SECONDS)
        finally:
            self.process.kill()  # its workers then leave by themselves
            self.process.wait()
            self.pool.shutdown()
            self.client.close()


def start_gunicorn(
    directory: Path,
    environment: Mapping[str, str],
    *arguments: str,
    listener: socket.socket | None = None,
    stdout: int | None = None,
) -> Gunicorn:
    """In a folder of the test's own, with the `.env` that is there; what it prints is in `log`."""
    port = free_port()
    ours = {"APP_PORT": str(port), "PYTHONPATH": str(ROOT), "WEB_CONCURRENCY": "1"}
    ours["METRICS_PORT"] = "0"
    descriptors = [listener.fileno()] if listener else []
    start = ["-c", ACTIVATE, *map(str, descriptors)] if listener else ["-m", "gunicorn"]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *start, *arguments],
            cwd=directory,
            env={**os.environ, **ours, **environment},
            pass_fds=descriptors,
            stdout=log if stdout is None else stdout,
            stderr=subprocess.STDOUT,
        )
    # Without kept connections: each request may reach another worker.
    limits = httpx2.Limits(max_keepalive_connections=0)
    url = f"http://127.0.0.1:{port}"
    client = httpx2.Client(base_url=url, limits=limits, timeout=DEADLINE_SECONDS)
    return Gunicorn(process, directory, port, client)


@contextmanager
def running_service(settings: Settings, **environment: str) -> Iterator[str]:
    """Its address, for tests that must not share a process with it."""
    with running_gunicorn(settings, **environment) as gunicorn:
        yield gunicorn.url


@contextmanager
def running_gunicorn(settings: Settings, **environment: str) -> Iterator[Gunicorn]:
    variables = service_environment(settings) | environment
    with (
        tempfile.TemporaryDirectory() as folder,
        start_gunicorn(Path(folder), variables, *SERVICE) as gunicorn,
    ):
        gunicorn.wait_until_ready()
        yield gunicorn


def service_environment(settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": str(settings.database_url),
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "ENVIRONMENT": "test",
        "PASSWORD_MEMORY_COST_KIB": "8",
        "PASSWORD_TIME_COST": "1",
        "PASSWORD_PARALLELISM": "1",
        # Attacks come by the hundred from one address; the limits have tests of their own.
        "LOGIN_ATTEMPTS_PER_ACCOUNT": "100000",
        "LOGIN_ATTEMPTS_PER_ADDRESS": "100000",
    }
