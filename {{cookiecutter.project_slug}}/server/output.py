"""Standard output for log lines: it never blocks or raises, and counts what is lost."""

import contextlib
import logging
import os
import select
import socket
import stat
import sys
from functools import cache
from threading import RLock

log = logging.getLogger(__name__)

# What waits for a reader that is slow or a disk that is full: some 3,000 lines.
WAITING_BYTES_MAX = 1_048_576


class LogStream:
    """Takes text or bytes, a whole line at a time."""

    def __init__(self, descriptor: int) -> None:
        kind = os.fstat(descriptor).st_mode
        self._socket = socket.socket(fileno=os.dup(descriptor)) if stat.S_ISSOCK(kind) else None
        self._descriptor = _open_own(descriptor, kind)
        # Several processes write to one pipe: no more than this arrives in one piece.
        self._write_bytes_max = select.PIPE_BUF if stat.S_ISFIFO(kind) else WAITING_BYTES_MAX
        self._lock = RLock()
        self._waiting = bytearray()
        self._lost = 0
        # What the parent still has to write is not the child's.
        os.register_at_fork(after_in_child=self._forget)

    def write(self, line: str | bytes) -> None:
        data = line.encode(errors="backslashreplace") if isinstance(line, str) else line
        with self._lock:
            if len(self._waiting) + len(data) > WAITING_BYTES_MAX:
                self._lost += 1
            else:
                self._waiting += data

    def flush(self) -> None:
        lost = 0
        # No room, no disk, no reader.
        with self._lock, contextlib.suppress(OSError):
            while self._waiting:
                del self._waiting[: self._write_some()]
            lost, self._lost = self._lost, 0
        if lost:
            log.warning("%d log lines were lost while standard output could not be written", lost)

    def _write_some(self) -> int:
        some = self._waiting[: self._write_bytes_max]
        end = some.rfind(b"\n") + 1 or len(some)
        if self._socket is not None:
            return self._socket.send(some[:end], socket.MSG_DONTWAIT)
        return os.write(self._descriptor, some[:end])

    def _forget(self) -> None:
        self._lock = RLock()
        self._waiting = bytearray()
        self._lost = 0


@cache
def standard_output() -> LogStream:
    # Python has none when the descriptor was closed before the start; its number may be anybody's.
    stream = sys.__stdout__ or sys.__stderr__
    return LogStream(stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY))


def _open_own(descriptor: int, kind: int) -> int:
    """O_NONBLOCK on the open file itself would be everybody's who has inherited it."""
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return os.dup(descriptor)
