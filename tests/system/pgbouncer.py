"""PgBouncer with the configuration that deploy/compose ships, in front of a test's PostgreSQL."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection
from urllib.parse import urlsplit

from tests.conftest import REPOSITORY, SERVICE
from tests.system.stack import free_port

SHIPPED = REPOSITORY / SERVICE / "deploy/compose/pgbouncer.ini"


@contextmanager
def running_pgbouncer(binary: str, url: str, folder: Path) -> Iterator[str]:
    """The address that the service uses instead; only places and ports differ from what ships."""
    address, port = urlsplit(url), free_port()
    # A name without folders: PgBouncer runs as another user, who may not enter those of pytest.
    folder.chmod(0o755)
    (folder / "pgbouncer_users").write_text(f'"{address.username}" "{address.password}"\\n')
    changes = {
        "host=postgres port=5432": f"host={address.hostname} port={address.port}",
        "listen_port = 6432": f"listen_port = {port}",
        "/run/secrets/pgbouncer_users": "pgbouncer_users",
    }
    text = SHIPPED.read_text()
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    (folder / "pgbouncer.ini").write_text(text)
    process = subprocess.Popen([binary, *_user(), "pgbouncer.ini"], cwd=folder)
    try:
        _wait_for(port)
        yield url.replace(f":{address.port}/", f":{port}/")
    finally:
        process.terminate()
        process.wait(timeout=10)


def _user() -> list[str]:
    # It refuses to run as root.
    return ["--user", "nobody"] if os.geteuid() == 0 else []


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError("PgBouncer does not listen")
