"""gunicorn's processes below `make serve`, from /proc; signals go to them by id."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.servers import wait_until
from tests.system.stack import Stack

STARTED = "Application startup complete"
LEAVING = "Leaving with"
ENDED = "Application shutdown complete"


def master_pid(stack: Stack) -> int:
    return next(pid for pid in _descendants(stack.process.pid) if _runs_gunicorn(pid))


def worker_pids(stack: Stack) -> set[int]:
    return set(children(master_pid(stack)))


def children(pid: int) -> list[int]:
    # Each thread has a list of its own, and uv starts processes from several.
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # it has just ended
            children += [int(child) for child in file.read_text().split()]
    return children


def reload_all(stack: Stack) -> None:
    """Returns when two others serve and the old ones are gone."""
    before, started = worker_pids(stack), count_lines(stack, STARTED)
    os.kill(master_pid(stack), signal.SIGHUP)
    wait_until(lambda: len(worker_pids(stack)) == 2 and not before & worker_pids(stack))
    wait_until(lambda: count_lines(stack, STARTED) == started + 2)


def replace_worker(stack: Stack, pid: int, number: signal.Signals) -> None:
    """Returns when it is gone and another one serves."""
    started = count_lines(stack, STARTED)
    os.kill(pid, number)
    wait_until(lambda: pid not in worker_pids(stack) and len(worker_pids(stack)) == 2)
    wait_until(lambda: count_lines(stack, STARTED) == started + 1)


def count_lines(stack: Stack, text: str) -> int:
    return stack.log.read_text().count(text)


def count_connections(pid: int, port: int) -> int:
    """Established ones that this process holds, of those that were made to `port`."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # local address, state 01 = established, inode
    wanted = {
        f"socket:[{row[9]}]" for row in table if row[1].endswith(f":{port:04X}") and row[3] == "01"
    }
    return sum(os.readlink(file) in wanted for file in Path(f"/proc/{pid}/fd").iterdir())


def _descendants(pid: int) -> Iterator[int]:
    """Parents before their children."""
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _runs_gunicorn(pid: int) -> bool:
    try:
        return b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
