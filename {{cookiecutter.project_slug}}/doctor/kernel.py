"""What the kernel of this machine allows: queue of connections, files, shared memory."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from doctor.finding import Finding, error, warning

# nginx's 2,000 clients, most of them event streams, on one worker, and the files it has anyway.
_OPEN_FILES_MIN = 4096
# Of which gunicorn needs one empty file for each worker.
_SHARED_MEMORY_BYTES_MIN = 2**20


def check_kernel(root: Path, backlog: int, open_files: int | None = None) -> list[Finding]:
    return [
        *_check_backlog(root / "proc/sys/net/core/somaxconn", backlog),
        *_check_open_files(_open_files_limit() if open_files is None else open_files),
        *_check_shared_memory(root / "dev/shm"),
        *_check_temporary_folder(),
    ]


def _open_files_limit() -> int:
    try:
        return os.sysconf("SC_OPEN_MAX")
    except (AttributeError, ValueError, OSError):
        return _OPEN_FILES_MIN  # Windows has no such limit


def _check_backlog(file: Path, backlog: int) -> Iterator[Finding]:
    try:
        most = int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if backlog > most:
        yield warning(
            "kernel",
            f"SERVER_BACKLOG is {backlog}, and the kernel cuts it to {most}.",
            "SERVER_BACKLOG",
            "Connections are refused earlier than planned while workers are replaced.",
            f"Run sysctl -w net.core.somaxconn={backlog}.",
        )


def _check_open_files(limit: int) -> Iterator[Finding]:
    if 0 < limit < _OPEN_FILES_MIN:
        yield warning(
            "kernel",
            f"A process may open {limit} files.",
            "ulimit -n",
            "Every connection is one; over the limit nobody is accepted.",
            f"Allow {_OPEN_FILES_MIN}: LimitNOFILE in systemd, ulimits in compose.",
        )


def _check_shared_memory(folder: Path) -> Iterator[Finding]:
    if not folder.parent.is_dir() or not hasattr(os, "statvfs"):
        return
    if not os.access(folder, os.W_OK):
        yield warning(
            "kernel",
            "It cannot be written to.",
            str(folder),
            "gunicorn's heartbeat goes to a disk, where a busy one looks like a stuck worker.",
            "Mount a tmpfs there.",
        )
        return
    size = os.statvfs(folder)
    if size.f_bavail * size.f_frsize < _SHARED_MEMORY_BYTES_MIN:
        yield warning(
            "kernel",
            "It is full.",
            str(folder),
            "gunicorn's heartbeat has no place.",
            "Empty it, or raise shm_size.",
        )


def _check_temporary_folder() -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile():
            return
    except OSError:
        yield error(
            "writable paths",
            "There is no folder for temporary files.",
            "TMPDIR",
            "Uploads that do not fit in memory fail.",
            "Mount a tmpfs at /tmp.",
        )
