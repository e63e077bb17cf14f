"""The database of a stack, seen from outside, and its nginx with other limits."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.servers import wait_until
from tests.system.processes import children
from tests.system.stack import Stack

QUERY = """
import asyncio, asyncpg, sys

async def occupy(connection, url):
    held = []
    # Those of the service are ended for as long as it gets new ones.
    sessions = "FROM pg_stat_activity WHERE application_name <> ''"
    ended = f"SELECT count(pg_terminate_backend(pid)) {sessions}"
    while await connection.fetchval(ended) or not held:
        try:
            while True:
                held.append(await asyncpg.connect(url))
        except asyncpg.TooManyConnectionsError:
            pass
    print("locked", flush=True)
    sys.stdin.read()

async def main():
    url = open(".local/database.env").read().strip().partition("//")[2]
    if sys.argv[1] == "run":
        # The owner has the password of the role that serves, on a developer's machine.
        url = url.replace("service:", "app:", 1)
    connection = await asyncpg.connect(f"postgresql://{url}")
    if sys.argv[1] == "query":
        print(await connection.fetchval(sys.argv[2]))
        return
    if sys.argv[1] == "run":
        await connection.execute(sys.argv[2])
        return
    if sys.argv[1] == "occupy":
        await occupy(connection, f"postgresql://{url}")
    await connection.execute(f"BEGIN; {sys.argv[2]}")
    print("locked", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def nginx_folder(stack: Stack) -> Path:
    return stack.project / ".local/nginx"


def nginx_master(stack: Stack) -> int:
    return int((nginx_folder(stack) / "nginx.pid").read_text())


@contextmanager
def shipped_limits(stack: Stack) -> Iterator[None]:
    """The limits of production, from deploy/nginx; `make serve` has looser ones."""
    file = nginx_folder(stack) / "site/limits.conf"
    loose = file.read_text()
    _reload_nginx(stack, file, (stack.project / "deploy/nginx/site/limits.conf").read_text())
    try:
        yield
    finally:
        _reload_nginx(stack, file, loose)


def _reload_nginx(stack: Stack, file: Path, text: str) -> None:
    file.write_text(text)
    master = nginx_master(stack)
    former = set(children(master))
    os.kill(master, signal.SIGHUP)
    wait_until(lambda: former.isdisjoint(workers := children(master)) and bool(workers), "reload")


def _python(stack: Stack, *arguments: str) -> list[str]:
    return [str(stack.project / ".venv/bin/python"), "-c", QUERY, *arguments]


def query(stack: Stack, sql: str) -> int:
    done = subprocess.run(
        _python(stack, "query", sql), cwd=stack.project, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def run_sql(stack: Stack, sql: str) -> None:
    command = _python(stack, "run", sql)
    subprocess.run(command, cwd=stack.project, check=True, capture_output=True)


def lock(stack: Stack, table: str) -> AbstractContextManager[None]:
    """As a migration that does not end: whoever needs the table waits."""
    return _held(stack, "lock", f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")


def occupied(stack: Stack) -> AbstractContextManager[None]:
    """Others have taken every connection that the database gives."""
    return _held(stack, "occupy")


@contextmanager
def _held(stack: Stack, *arguments: str) -> Iterator[None]:
    pipe = subprocess.PIPE
    command = _python(stack, *arguments)
    with subprocess.Popen(command, cwd=stack.project, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield


def database(stack: Stack, command: str) -> None:
    """`manage database start|stop`; done when it is."""
    manage = [str(stack.project / ".venv/bin/manage"), "database", command]
    subprocess.run(manage, cwd=stack.project, check=True, capture_output=True)
