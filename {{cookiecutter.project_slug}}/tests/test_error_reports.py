"""An exception is one line of the log and one event, wherever it happens, without a secret."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.failing_app import SECRET
from tests.server.conftest import ENVIRONMENT
from tests.servers import SERVICE, Gunicorn, listens, start_gunicorn, wait_until
from tests.telemetry import Receiver, running_receiver

pytestmark = pytest.mark.system

PATHS = ("/fails", "/breaks-off", "/fails-afterwards", "/answers-nonsense", "/fails/ws")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def log(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Of a service in which each of the routes has failed once."""
    environment = ENVIRONMENT | {"SENTRY_DSN": receiver.dsn, "LOG_FORMAT": "json"}
    application = "tests.failing_app:create_app()"
    folder: Path = tmp_path_factory.mktemp("failing")
    with start_gunicorn(folder, environment, *SERVICE, application) as gunicorn:
        wait_until(lambda: listens(gunicorn.port))
        for path in PATHS:
            fail(gunicorn, path)
        gunicorn.stop()
        return [json.loads(line) for line in gunicorn.log().splitlines()]


def fail(gunicorn: Gunicorn, path: str) -> None:
    address = f"127.0.0.1:{gunicorn.port}{path}"
    headers = {"X-Request-ID": request_id_of(path)}
    if path.endswith("/ws"):
        with (
            suppress(ConnectionClosed),
            connect(f"ws://{address}", additional_headers=headers) as ws,
        ):
            ws.recv(timeout=10)
        return
    with suppress(httpx2.TransportError):
        httpx2.get(f"http://{address}", headers=headers, timeout=10)


def request_id_of(path: str) -> str:
    return path.strip("/").replace("/", "-").ljust(32, "0")


@pytest.mark.parametrize("path", PATHS)
def test_exception_is_one_line_and_one_event(
    log: list[dict[str, object]], receiver: Receiver, path: str
) -> None:
    lines = [line for line in log if line.get("request_id") == request_id_of(path)]
    assert sum("exception" in line for line in lines) == 1, lines
    tags = [cast("dict[str, str]", event["tags"]) for event in receiver.events()]
    assert [one["request_id"] for one in tags].count(request_id_of(path)) == 1


def test_line_has_the_whole_stack(log: list[dict[str, object]]) -> None:
    [text] = [
        str(line["exception"])
        for line in log
        if "exception" in line and line.get("request_id") == request_id_of("/fails")
    ]
    assert "LookupError: Authorization: Bearer …" in text
    assert "RuntimeError: postgresql://…@database/app is away" in text


def test_neither_has_a_secret(log: list[dict[str, object]], receiver: Receiver) -> None:
    assert SECRET not in repr(log)
    assert SECRET.encode() not in b"".join(receiver.bodies)
