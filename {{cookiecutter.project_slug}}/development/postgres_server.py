"""The PostgreSQL process of a project: its settings, its start, whether it runs, its end."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from development.ports import free_port
from development.postgres_programs import Account, PostgresError, Programs, own, write_private

if sys.platform != "win32":
    import fcntl

SETTINGS_FILE = "development.conf"

SETTINGS = """\
listen_addresses = '127.0.0.1'
# No socket file: its path would have to stay below 108 bytes.
unix_socket_directories = ''
# Workers with their pools, twice as many during a reload, and tests. Default: 100.
max_connections = 100
# A commit does not wait for the disk: a crash of the machine loses at most the last 0.6 s and,
# unlike with fsync = off, damages nothing. Default: on.
# https://www.postgresql.org/docs/current/wal-async-commit.html
synchronous_commit = off
"""

# As patient as pg_ctl: the recovery after a crash takes its time.
WAIT_SECONDS = 60
# Higher than any process id that a system gives.
NO_PROCESS = 2**31 - 1
# On Windows a server without a console of its own ends with that of its parent.
DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0)


@dataclass(frozen=True)
class Server:
    folder: Path
    programs: Programs
    account: Account

    @property
    def data(self) -> Path:
        return self.folder / "data"


def launch(server: Server) -> None:
    _forget_process(server)
    try:
        _start(server, read_port(server) or free_port())
    except PostgresError as error:
        if "TCP/IP" not in str(error):
            raise
        # Somebody else has taken the port since the last time.
        _start(server, free_port())


def end(server: Server, mode: str = "fast") -> None:
    run(server, ["pg_ctl", "stop", "--silent", f"--mode={mode}", f"--timeout={WAIT_SECONDS}"])


def is_running(server: Server) -> bool:
    deadline = time.monotonic() + WAIT_SECONDS
    while _is_alive(server):
        if _is_ready(server):
            return True
        if time.monotonic() > deadline:
            raise PostgresError(
                f"PostgreSQL neither gets ready nor ends: see {server.folder / 'server.log'}."
            )
        time.sleep(0.05)
    return False


def run(
    server: Server,
    command: Sequence[str],
    *,
    data: Path | None = None,
    text: str = "",
    keep_open: Sequence[int] = (),
) -> None:
    program, *options = command
    with _open(server, "server.log") as log:
        begin = log.tell()
        done = subprocess.run(
            [*server.account.wrapper, server.programs.folder / program, *options],
            check=False,
            cwd=server.folder,
            env=_environment(data or server.data),
            input=text,
            text=True,
            stdout=log,
            stderr=log,
            pass_fds=keep_open,
            creationflags=DETACHED,
            **server.account.identity,
        )
        log.seek(begin)
        if done.returncode != 0:
            raise PostgresError(f"PostgreSQL failed: {_reason(log.read())} (more in {log.name}).")


def read_port(server: Server) -> int:
    """0 before the first start."""
    with suppress(FileNotFoundError):
        port = re.match(r"port = (\d+)\n", (server.data / SETTINGS_FILE).read_text("utf-8"))
        return int(port[1]) if port else 0
    return 0


def _start(server: Server, port: int) -> None:
    write_private(server.data / SETTINGS_FILE, f"port = {port}\n{SETTINGS}", server.account)
    try:
        with _hold_lock(server) as keep_open:
            command = ["pg_ctl", "start", "--silent", f"--timeout={WAIT_SECONDS}"]
            run(server, command, keep_open=keep_open)
    except BaseException:
        with suppress(PostgresError):
            if is_running(server):
                end(server, "immediate")
        raise


@contextmanager
def _hold_lock(server: Server) -> Iterator[Sequence[int]]:
    """What the server inherits: a process id may pass to another process, a lock cannot."""
    if sys.platform == "win32":
        yield ()
        return
    with _open(server, "server.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield (lock.fileno(),)


def _is_alive(server: Server) -> bool:
    if sys.platform == "win32":
        return _is_ready(server)
    try:
        with _hold_lock(server):
            return False
    except BlockingIOError:
        return True


def _is_ready(server: Server) -> bool:
    lines = _process_file(server)
    if lines[7:8] != ["ready   "]:
        return False
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(lines[3])), timeout=5):
        return True
    return False


def _process_file(server: Server) -> list[str]:
    # Its lines: https://doxygen.postgresql.org/pidfile_8h.html
    with suppress(FileNotFoundError):
        return (server.data / "postmaster.pid").read_text("utf-8").splitlines()
    return []


def _forget_process(server: Server) -> None:
    # After a crash PostgreSQL refuses to start when its old process id is in use again. Without the
    # file it would not see a server that still has the shared memory; without the number it does.
    if sys.platform != "win32" and (lines := _process_file(server)):
        text = "\n".join([str(NO_PROCESS), *lines[1:], ""])
        write_private(server.data / "postmaster.pid", text, server.account)


def _open(server: Server, name: str) -> IO[str]:
    path = server.folder / name
    file = path.open("a+", encoding="utf-8", errors="replace")
    own(path, server.account)
    return file


def _environment(data: Path) -> dict[str, str]:
    """The user's PGPORT, PGOPTIONS and the like are not for this server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "PGDATA": str(data), "LC_ALL": "C"}


def _reason(output: str) -> str:
    pattern = r"(?:FATAL|PANIC|ERROR|error): +(.+)(?:\n.*HINT: +(.+))?"
    found: list[tuple[str, str]] = re.findall(pattern, output)
    sentences = found[-1] if found else output.rstrip().split("\n")[-1:]
    return ": ".join(sentence.rstrip(".") for sentence in sentences if sentence)
