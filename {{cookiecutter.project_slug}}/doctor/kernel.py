"""What the kernel of this machine allows: queue of connections, files, shared memory."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from doctor.finding import Finding, mistake

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
        yield mistake("backlog_cut", "SERVER_BACKLOG", backlog=backlog, most=most)


def _check_open_files(limit: int) -> Iterator[Finding]:
    if 0 < limit < _OPEN_FILES_MIN:
        yield mistake("files_of_process", "ulimit -n", limit=limit, least=_OPEN_FILES_MIN)


def _check_shared_memory(folder: Path) -> Iterator[Finding]:
    if not folder.parent.is_dir() or not hasattr(os, "statvfs"):
        return
    if not os.access(folder, os.W_OK):
        yield mistake("shared_memory_closed", str(folder))
        return
    size = os.statvfs(folder)
    if size.f_bavail * size.f_frsize < _SHARED_MEMORY_BYTES_MIN:
        yield mistake("shared_memory_full", str(folder))


def _check_temporary_folder() -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile():
            return
    except OSError:
        yield mistake("temporary_folder", "TMPDIR")
