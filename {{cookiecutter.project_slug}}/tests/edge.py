"""The small application behind nginx, and what its tests say to nginx."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from httpx2 import Response
from starlette.types import Receive, Scope, Send

from tests.servers import wait_until


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what arrived; streams forever on /events, echoes on a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        return
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"path": scope["path"], "peer": scope["client"][1], "headers": headers})
    start = {"status": 200, "headers": [(b"x-request-id", headers["x-request-id"].encode())]}
    await send({"type": "http.response.start", **start})
    streams = scope["path"] == "/api/v1/events"
    await send({"type": "http.response.body", "body": body.encode() + b"\n", "more_body": streams})
    while streams and (await receive())["type"] != "http.disconnect":
        pass


@contextmanager
def running_application(port: int = 0) -> Iterator[int]:
    """The port it listens on."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(echo, lifespan="off", log_config=None, proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def exchange(port: int, request: str) -> str:
    """What a client sends that no library would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def assert_is_problem(response: Response, status: int) -> None:
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert [problem["request_id"]] == response.headers.get_list("x-request-id")


def lines_with(file: Path, text: str) -> list[str]:
    """nginx writes the line after it has answered."""
    wait_until(lambda: text in file.read_text())
    return [line for line in file.read_text().splitlines() if text in line]
