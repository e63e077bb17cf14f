"""gunicorn on a unix socket that outlives it, as under systemd: a restart loses no request."""

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from development import nginx
from development.ports import free_port
from tests.servers import (
    SERVICE,
    STOP_WITHIN_SECONDS,
    Gunicorn,
    running_nginx,
    service_environment,
    start_gunicorn,
    wait_until,
)

pytestmark = pytest.mark.system

CLIENTS = 8
Serve = Callable[[], AbstractContextManager[Gunicorn]]


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


@pytest.fixture
def serve(tmp_path: Path, listener: socket.socket, settings: Settings) -> Serve:
    """Until its last request is answered."""

    @contextmanager
    def serve() -> Iterator[Gunicorn]:
        variables = service_environment(settings) | {"FORWARDED_ALLOW_IPS": "*"}
        with start_gunicorn(tmp_path, variables, *SERVICE, listener=listener) as gunicorn:
            yield gunicorn
            assert gunicorn.stop(within_seconds=STOP_WITHIN_SECONDS) == 0

    return serve


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
        wanted = self.answers[200] + count
        wait_until(lambda: self.answers[200] >= wanted)


def test_no_request_is_lost_when_the_service_restarts(serve: Serve, http_port: int) -> None:
    load = Load(http_port)
    with load.running():
        for _ in range(2):
            with serve():
                load.wait_for_more(500)
        # The last questions are waiting in the socket; somebody must answer them.
        with serve():
            load.wait_for_more(CLIENTS)
            load.stopped.set()
    assert load.answers.keys() == {200}
    assert load.answers[200] >= 1000


def test_client_keeps_its_address_when_it_forges_another(serve: Serve, http_port: int) -> None:
    # A unix socket has no peer address: uvicorn believes nginx, which overwrites the header.
    forged = {"X-Forwarded-For": "203.0.113.9"}
    url = f"http://127.0.0.1:{http_port}/version"
    with serve() as gunicorn:
        assert httpx2.get(url, headers=forged, timeout=30).status_code == 200
    assert '"client":"127.0.0.1"' in gunicorn.log()
    assert "203.0.113.9" not in gunicorn.log()
