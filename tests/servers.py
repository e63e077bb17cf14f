"""Starts servers for tests, waits until they answer and ends them with the test."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

import httpx2

# A cold start on two busy cores, with the packages in uv's cache; only a failure waits that long.
READY_WITHIN_SECONDS = 120
# The order of timeouts gives a worker 30 s; PostgreSQL and nginx are faster.
STOP_WITHIN_SECONDS = 60
# Two busy cores: a worker imports for seconds, then its predecessor drains for 3 s or longer.
HAPPENS_WITHIN_SECONDS = 60


def wait_until(
    condition: Callable[[], bool],
    what: str = "what the test waits for",
    within_seconds: float = HAPPENS_WITHIN_SECONDS,
) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with suppress(OSError), create_connection(("127.0.0.1", port)):
        return True
    return False


def answers(url: str) -> bool:
    with suppress(httpx2.HTTPError):
        return httpx2.get(url, verify=False).status_code == httpx2.codes.OK
    return False


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """A group of processes, in the folder of the file that gets what they print."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        wait_until(
            lambda: process.poll() is not None or is_ready(), str(command), READY_WITHIN_SECONDS
        )
        assert process.poll() is None, f"{command} ended:\n{log.read_text()[-4000:]}"
        yield process
    finally:
        end(process, stop_signal)


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, stop_signal)
    try:
        process.wait(STOP_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
