"""Asks the database of a stack, with the service's own driver and in its environment."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.system.stack import Stack

_CONNECT = """
import asyncio, json, sys, asyncpg
from app.settings import Settings
def connect():
    return asyncpg.connect("postgresql://" + str(Settings.load().database_url).partition("://")[2])
"""
_COLUMN = """
async def main():
    rows = await (await connect()).fetch(sys.argv[1], *sys.argv[2:])
    print(json.dumps([row[0] for row in rows]))
asyncio.run(main())
"""
# Until standard input is closed.
_WATCH = """
async def main():
    connection, most, samples = await connect(), 0, 0
    closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not closed.done():
        most = max(most, await connection.fetchval(sys.argv[1], *sys.argv[2:]))
        samples += 1
        await asyncio.sleep(0.05)
    print(json.dumps({"most": most, "samples": samples}))
asyncio.run(main())
"""
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, $1)"


@dataclass
class Watched:
    most: int = 0
    samples: int = 0


def column(stack: Stack, sql: str, *arguments: str) -> list[str]:
    """The first one of every row."""
    done = subprocess.run(
        [_python(stack), "-c", _CONNECT + _COLUMN, sql, *arguments],
        cwd=stack.project,
        env=stack.environment,
        check=True,
        capture_output=True,
    )
    return list(json.loads(done.stdout))


@contextmanager
def watched_connections(stack: Stack, service_name: str) -> Iterator[Watched]:
    """How many the service has at most while the block runs; filled in at its end."""
    watched = Watched()
    process = subprocess.Popen(
        [_python(stack), "-c", _CONNECT + _WATCH, _CONNECTIONS, f"{service_name}:"],
        cwd=stack.project,
        env=stack.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield watched
    finally:
        output, _ = process.communicate(timeout=10)
    vars(watched).update(json.loads(output))


def planned_connections(stack: Stack) -> Mapping[str, int]:
    """What `manage capacity --json` says."""
    done = subprocess.run(
        [stack.project / ".venv/bin/manage", "capacity", "--json"],
        cwd=stack.project,
        env=stack.environment,
        check=True,
        capture_output=True,
    )
    return dict(json.loads(done.stdout))


def _python(stack: Stack) -> str:
    return str(stack.project / ".venv/bin/python")
