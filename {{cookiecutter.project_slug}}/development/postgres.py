"""A PostgreSQL of the project's own, in `.local/postgres`, for when DATABASE_URL is not set.

It has two roles, as deploy/database makes them: one owns the tables and migrates, the other runs
the service. The address of the second goes to `.local/database.env`, where the settings find it.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from development import DevelopmentError
from development.ports import free_port
from development.postgres_programs import (
    Account,
    Programs,
    choose_account,
    find_programs,
    own,
    write_private,
)

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PROJECT = Path(__file__).resolve().parent.parent
# In template1, so that each database has them: the app's and those of the tests.
ROLES = """\
CREATE ROLE service LOGIN PASSWORD '{password}'
REVOKE CREATE ON SCHEMA public FROM PUBLIC
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO service
ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO service
"""
# Beside the data, where it was made with two roles: before, the owner ran the service as well.
TWO_ROLES = "two-roles"
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


def start(project: Path = PROJECT) -> str:
    """Starts what is not running yet; the address of the owner for SQLAlchemy."""
    with _alone(project) as local:
        server = _find(local / "postgres")
        if not is_running(server):
            _create(server)
            _check_major(server)
            launch(server)
        owner = _address(server)
        _publish(service_address(owner, project), local / "database.env")
        return owner


def service_address(owner: str, project: Path = PROJECT) -> str:
    """Of the role that runs the service, in the same database."""
    has_two = (project / ".local/postgres" / TWO_ROLES).exists()
    return owner.replace("//app:", "//service:", 1) if has_two else owner


def owner_address(address: str, project: Path = PROJECT) -> str | None:
    """Of the role that migrates; None when the address is not that of this database."""
    file = project / ".local/database.env"
    if not file.exists() or file.read_text("utf-8") != f"DATABASE_URL={address}\n":
        return None
    return address.replace("//service:", "//app:", 1)


def stop(project: Path = PROJECT) -> None:
    if not (project / ".local/postgres").exists():
        return
    with _alone(project) as local:
        server = _find(local / "postgres")
        if is_running(server):
            end(server)


@contextmanager
def _alone(project: Path) -> Iterator[Path]:
    """One start or stop at a time; what the system refuses becomes one sentence."""
    local = project / ".local"
    try:
        local.mkdir(exist_ok=True)
        with (local / "postgres.lock").open("a") as lock:
            if sys.platform == "win32":
                msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
            else:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield local
    except OSError as error:
        place = error.filename or local
        raise DevelopmentError(
            f"PostgreSQL cannot be kept in {local} ({error.strerror}: {place}): "
            "make that possible, or set DATABASE_URL."
        ) from error


def _find(folder: Path) -> Server:
    folder.mkdir(mode=0o700, exist_ok=True)
    programs = find_programs(_read_major(folder))
    account = choose_account(folder, programs.folder / "postgres")
    return Server(folder, programs, account)


def _read_major(folder: Path) -> int | None:
    version = folder / "data/PG_VERSION"
    return int(version.read_text("ascii")) if version.exists() else None


def _check_major(server: Server) -> None:
    data, programs = _read_major(server.folder), server.programs.major
    if data != programs:
        raise DevelopmentError(
            f"The data in {server.folder} belongs to PostgreSQL {data}, but only {programs} was "
            f"found: install {data}, or delete that folder to begin with an empty database."
        )


def _create(server: Server) -> None:
    """Made beside its place and moved there when complete: no half of a database stays."""
    for leftover in server.folder.glob("new-*"):
        # After `kill -9` of a start its initdb may still be writing there.
        shutil.rmtree(leftover, ignore_errors=True)
    if (server.data / "PG_VERSION").exists():
        return
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=server.folder))
    try:
        own(fresh, server.account)
        _initialise(server, fresh)
        fresh.rename(server.data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _initialise(server: Server, fresh: Path) -> None:
    password, random = server.folder / "password", secrets.token_urlsafe(24)
    write_private(password, random, server.account)
    login = ["--username=app", f"--pwfile={password}", "--auth=scram-sha-256"]
    options = [*login, "--encoding=UTF8", "--no-instructions"]
    try:
        run(server, ["initdb", *options, "--locale=C.UTF-8"], data=fresh)
    except DevelopmentError as error:
        if "locale" not in str(error):
            raise
        # Not every system has C.UTF-8; with C, upper() and lower() know ASCII only.
        run(server, ["initdb", *options, "--locale=C"], data=fresh)
    with (fresh / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write(f"include_if_exists = '{SETTINGS_FILE}'\n")
    single_user = ["postgres", "--single", "-c", "exit_on_error=true"]
    run(server, [*single_user, "template1"], data=fresh, text=ROLES.format(password=random))
    run(server, [*single_user, "postgres"], data=fresh, text="CREATE DATABASE app\n")
    write_private(server.folder / TWO_ROLES, "", server.account)


def _address(server: Server) -> str:
    password = (server.folder / "password").read_text("utf-8")
    port = read_port(server)
    return f"postgresql+asyncpg://app:{password}@127.0.0.1:{port}/app"


def _publish(address: str, file: Path) -> None:
    line = f"DATABASE_URL={address}\n"
    if not file.exists() or file.read_text("utf-8") != line:
        write_private(file, line)


def launch(server: Server) -> None:
    _forget_process(server)
    try:
        _start(server, read_port(server) or free_port())
    except DevelopmentError as error:
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
            raise DevelopmentError(
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
            raise DevelopmentError(
                f"PostgreSQL failed: {_reason(log.read())} (more in {log.name})."
            )


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
        with suppress(DevelopmentError):
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
