"""Child processes that live and end together: gunicorn, the jobs and nginx of `make serve`."""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from development import DevelopmentError

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
# uv and make pass a signal on that the terminal sent us already; that is not a second Ctrl-C.
_ECHO_SECONDS = 1.0

# nginx finishes what is short before gunicorn hears that it has to go.
_HEAD_START_SECONDS = 3.0

Inbox = queue.SimpleQueue[int]


@dataclass(frozen=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]
    # What makes it finish its requests and leave.
    stop_signal: signal.Signals

    def send(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signum)

    def send_to_group(self, signum: int) -> bool:
        """To it and to the workers it may have left behind; False when nobody is there."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, signum)
        except (ProcessLookupError, PermissionError):  # the latter on macOS, for the dead
            return False
        return True


def start(  # noqa: PLR0913 (what Popen takes)
    name: str,
    command: Sequence[str],
    stop_signal: signal.Signals,
    *,
    folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | None = None,
) -> Child:
    """Without `output` it writes where this process does."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A group of its own: Ctrl-C in the terminal is ours to handle.
        process_group=0,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - this program has one thread
    )
    return Child(name, process, stop_signal)


def _die_with_parent() -> Callable[[], None] | None:
    # Without it, `kill -9` of this process leaves servers behind that hold the ports.
    # Linux only: elsewhere the next start says that the port is taken.
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def run_before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return run_before_exec


@contextmanager
def signals(*wanted: signal.Signals) -> Iterator[Inbox]:
    """Collects these signals instead of acting on them; `put` is safe in a handler."""
    inbox: Inbox = queue.SimpleQueue()
    former = {one: signal.signal(one, lambda number, _frame: inbox.put(number)) for one in wanted}
    try:
        yield inbox
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)


def has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return True
    return False


def next_signal(inbox: Inbox, within_seconds: float) -> signal.Signals | None:
    try:
        return signal.Signals(inbox.get(timeout=within_seconds))
    except queue.Empty:
        return None


def raise_if_dead(children: Sequence[Child]) -> None:
    for child in children:
        code = child.process.poll()
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise DevelopmentError(f"{child.name} ended unexpectedly with {how}.")


def stop(children: Sequence[Child], inbox: Inbox, within_seconds: float) -> None:
    """The last one started is the first to go; a second Ctrl-C or the deadline ends all at once."""
    started_at = time.monotonic()
    deadline = started_at + within_seconds
    for child in reversed(children):
        child.send(child.stop_signal)
        if child.process.poll() is not None:
            child.send_to_group(signal.SIGTERM)
        # Idle, it is gone at once; busy, it may wait for what the next one still has to answer.
        head_start = min(deadline, time.monotonic() + _HEAD_START_SECONDS)
        if _is_urged([child], inbox, started_at, head_start):
            break
    else:
        _is_urged(children, inbox, started_at, deadline)
    for child in children:
        child.send_to_group(signal.SIGKILL)
        child.process.wait()


def _is_urged(children: Sequence[Child], inbox: Inbox, started_at: float, deadline: float) -> bool:
    """Waits until they are gone; True when somebody pressed Ctrl-C again."""
    while time.monotonic() < deadline and any(child.send_to_group(0) for child in children):
        if next_signal(inbox, 0.05) and time.monotonic() > started_at + _ECHO_SECONDS:
            return True
    return False
