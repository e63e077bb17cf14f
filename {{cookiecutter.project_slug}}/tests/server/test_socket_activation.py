"""gunicorn on a unix socket that outlives it, as under systemd: a restart loses no request."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from development import nginx
from development.ports import free_port
from tests.edge import running_nginx

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
CLIENTS = 8
# What systemd does between fork and exec: the sockets from 3 on, their number, and for whom.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "gunicorn"])
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "app.socket"))
        listener.listen(4096)
        yield listener


@pytest.fixture
def http_port(tmp_path: Path, listener: socket.socket) -> Iterator[int]:
    port, folder = free_port(), tmp_path / "nginx"
    nginx.prepare(folder, port, app_port=1)
    upstream = f"server unix:{listener.getsockname()} max_fails=0;\n"
    (folder / "site" / "upstream.conf").write_text(upstream)
    with running_nginx(folder, port):
        yield port


@contextmanager
def running_gunicorn(listener: socket.socket, database_url: str) -> Iterator[None]:
    """Until its last request is answered."""
    descriptor = listener.fileno()
    settings = {
        "DATABASE_URL": database_url,
        "LOG_FORMAT": "json",
        "SECRET_KEY": "0123456789abcdefghijklmnopqrstuv",
        "FORWARDED_ALLOW_IPS": "*",
        "WEB_CONCURRENCY": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, str(descriptor)],
        cwd=ROOT,
        env=os.environ | settings,
        pass_fds=(descriptor,),
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0


@dataclass
class Load:
    """Clients who ask one question after the other, and everything they were answered."""

    port: int
    answers: Counter[int | str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.stopped.is_set():
            try:
                connection.request("GET", "/version")
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
                connection.close()
        connection.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def wait_for_more(self, count: int) -> None:
        wanted, deadline = self.answers[200] + count, time.monotonic() + 30
        while self.answers[200] < wanted and time.monotonic() < deadline:
            time.sleep(0.05)


def test_no_request_is_lost_when_the_service_restarts(
    listener: socket.socket, http_port: int, database_url: str
) -> None:
    load = Load(http_port)
    with load.running():
        for _ in range(2):
            with running_gunicorn(listener, database_url):
                load.wait_for_more(500)
        # The last questions are waiting in the socket; somebody must answer them.
        with running_gunicorn(listener, database_url):
            load.wait_for_more(CLIENTS)
            load.stopped.set()
    assert load.answers.keys() == {200}
    assert load.answers[200] >= 1000


def test_client_keeps_its_address_when_it_forges_another(
    listener: socket.socket, http_port: int, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # A unix socket has no peer address: uvicorn believes nginx, which overwrites the header.
    with running_gunicorn(listener, database_url):
        connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=30)
        connection.request("GET", "/version", headers={"X-Forwarded-For": "203.0.113.9"})
        assert connection.getresponse().status == 200
        connection.close()
    logged = capfd.readouterr().out
    assert '"client":"127.0.0.1"' in logged
    assert "203.0.113.9" not in logged
