"""Every process writes one JSON object a line, at the level that is asked for, and no secret."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from app.settings import Settings
from development import nginx
from development.ports import free_port
from tests.conftest import PASSWORD, empty_tables
from tests.failing_app import SECRET
from tests.servers import (
    ROOT,
    SERVICE,
    Gunicorn,
    running_nginx,
    service_environment,
    start_gunicorn,
    wait_until,
)

pytestmark = pytest.mark.system

USER = {"email": "ada@example.com", "password": PASSWORD}
Lines = dict[str, list[dict[str, object]]]


@pytest.fixture(scope="module")
def text(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each of them wrote while the service was used, with debug lines for a while."""
    folder: Path = tmp_path_factory.mktemp("lines")
    variables = service_environment(settings) | {"LOG_FORMAT": "json"}
    variables["DATABASE_OWNER_URL"] = str(settings.database_owner_url)
    migrated = subprocess.run(
        [sys.executable, "-c", "from manage.cli import main; main()", "migrate"],
        cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    port = free_port()
    with start_gunicorn(folder, variables, *SERVICE) as gunicorn:
        gunicorn.wait_until_ready()
        nginx.prepare(folder, port, gunicorn.port)
        with running_nginx(folder, port):
            toggle_debug(gunicorn, "on")
            # The worker hears of it a moment later than the master.
            wait_until(lambda: gunicorn.readiness() == 200 and '"debug"' in gunicorn.log())
            send_secrets(f"localhost:{port}")
            toggle_debug(gunicorn, "off")
            httpx2.get(f"http://localhost:{port}/version", timeout=10)
        gunicorn.stop()
        yield {
            "alembic": migrated.stdout,
            "service": gunicorn.log(),
            "nginx": (folder / "logs/access.log").read_text(),
        }
    empty_tables(settings)


@pytest.fixture(scope="module")
def lines(text: dict[str, str]) -> Lines:
    return {name: list(map(json.loads, one.splitlines())) for name, one in text.items()}


def toggle_debug(gunicorn: Gunicorn, state: str) -> None:
    gunicorn.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: f"Debug lines are {state}" in gunicorn.log())


def send_secrets(host: str) -> None:
    """Wherever a client may put one."""
    with httpx2.Client(base_url=f"http://{host}", timeout=10) as client:
        client.post("/api/v1/users", json=USER).raise_for_status()
        form = {"username": USER["email"], "password": PASSWORD}
        pair = client.post("/api/v1/auth/token", data=form).raise_for_status().json()
        good = {"Authorization": f"Bearer {pair['access_token']}"}
        headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
        headers |= {"Referer": f"http://{host}/?token={SECRET}", "X-API-Key": SECRET}
        for method, path, body in (
            ("GET", f"/api/v1/users/me?access_token={SECRET}", {}),
            ("POST", "/api/v1/auth/token", {"data": form | {"password": SECRET}}),
            ("POST", "/api/v1/auth/token", {"data": {"username": SECRET, "password": SECRET}}),
            ("POST", "/api/v1/auth/refresh", {"json": {"refresh_token": SECRET}}),
            ("POST", "/api/v1/auth/revoke", {"data": {"token": SECRET}}),
            ("POST", "/api/v1/users", {"json": {"email": "x", "password": SECRET}}),
            ("POST", "/api/v1/users", {"content": '{"password": "' + SECRET}),
            ("POST", "/admin/login", {"data": form | {"password": SECRET}}),
        ):
            client.request(method, path, headers=headers, **body)
        client.get("/api/v1/users/me", headers=good).raise_for_status()
        change = {"current_password": PASSWORD, "new_password": SECRET}
        client.put("/api/v1/users/me/password", json=change, headers=good).raise_for_status()
        client.post("/api/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        protocols = [Subprotocol("v1"), Subprotocol(f"bearer.{pair['access_token']}")]
    with (
        suppress(WebSocketException),
        connect(f"ws://{host}/api/v1/events/ws?token={SECRET}", subprotocols=protocols) as socket,
    ):
        socket.send(json.dumps({"type": "token", "token": SECRET}))
        socket.recv(timeout=10)


def test_all_processes_write_json(lines: Lines) -> None:
    loggers = {line.get("logger") for line in lines["service"]}
    # The master, the workers, and the app's own lines, which need no logger.
    assert {"gunicorn.error", "uvicorn.error", "server.graceful", None} <= loggers
    assert all(line["event"] and line["level"] for line in lines["service"])
    assert {line["logger"] for line in lines["alembic"]} >= {"alembic.runtime.migration"}
    assert lines["nginx"]


def test_nginx_and_the_app_have_one_line_for_a_request(lines: Lines) -> None:
    requests = [line for line in lines["service"] if line["event"] == "request"]
    ids = [line["request_id"] for line in requests]
    assert len(set(ids)) == len(ids)
    assert {line["request_id"] for line in lines["nginx"]} == set(ids)


def test_access_line_tells_what_a_request_was_and_what_it_cost(lines: Lines) -> None:
    [line] = [
        line
        for line in lines["service"]
        if line.get("route") == "/api/v1/users/me" and line["status"] == httpx2.codes.OK
    ]
    request = {"method", "route", "path", "status", "client", "request_id", "user_id", "session_id"}
    cost = {"duration_ms", "pool_wait_ms", "sql_ms", "sql_count"}
    assert line.keys() - {"event", "level", "timestamp"} == request | cost


def test_debug_lines_come_and_go_with_a_signal(lines: Lines) -> None:
    levels = [line["level"] for line in lines["service"]]
    events = [line["event"] for line in lines["service"]]
    on, leaving = events.index("Debug lines are on"), events.index("Leaving with 0 connections")
    assert "debug" not in levels[:on] + levels[leaving:]


def test_debug_lines_tell_the_statements_of_a_request(lines: Lines) -> None:
    [insert] = [line for line in lines["service"] if "ms: INSERT INTO app_user" in str(line)]
    [request] = [
        line
        for line in lines["service"]
        if line["event"] == "request" and line["request_id"] == insert["request_id"]
    ]
    assert (insert["level"], request["route"]) == ("debug", "/api/v1/users")


def test_no_secret_is_in_any_line(text: dict[str, str]) -> None:
    together = "\n".join(text.values())
    assert SECRET not in together
    assert PASSWORD not in together
    assert not re.search(r"\beyJ", together), "a token"
