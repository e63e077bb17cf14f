"""The service as a process of its own, for tests that must not share anything with it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from httpx2 import Client, TransportError

from app.settings import Settings

_START_SECONDS_MAX = 30
# uvicorn's --fd takes any socket for a Unix one: no TCP_NODELAY, 40 ms more for each request.
_SERVE = """
import socket, sys, uvicorn
listener = socket.socket(fileno=int(sys.argv[1]))
uvicorn.Server(uvicorn.Config("app.main:create_app", factory=True)).run(sockets=[listener])
"""


@contextmanager
def running_service(settings: Settings, **environment: str) -> Iterator[str]:
    """Its address; the process ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(listener.fileno())],
        env=os.environ | _environment(settings) | environment,
        pass_fds=[listener.fileno()],
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        listener.close()


def _environment(settings: Settings) -> dict[str, str]:
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


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + _START_SECONDS_MAX
    with Client(base_url=url) as client:
        while time.monotonic() < give_up_at and process.poll() is None:
            try:
                if client.get("/readyz").status_code == 200:
                    return
            except TransportError:
                pass
            time.sleep(0.05)
    raise RuntimeError("the service did not start")
