"""A PostgreSQL of the project's own, in `.local/postgres`, for when DATABASE_URL is not set.

It has two roles, as deploy/database makes them: one owns the tables and migrates, the other runs
the service. The address of the second goes to `.local/database.env`, where the settings find it.
"""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from development import postgres_server
from development.postgres_programs import (
    PostgresError,
    choose_account,
    find_programs,
    own,
    write_private,
)
from development.postgres_server import SETTINGS_FILE, Server, run

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["PostgresError", "owner_address", "service_address", "start", "stop"]

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


def start(project: Path = PROJECT) -> str:
    """Starts what is not running yet; the address of the owner for SQLAlchemy."""
    with _alone(project) as local:
        server = _find(local / "postgres")
        if not postgres_server.is_running(server):
            _create(server)
            _check_major(server)
            postgres_server.launch(server)
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
        if postgres_server.is_running(server):
            postgres_server.end(server)


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
        raise PostgresError(
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
        raise PostgresError(
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
    except PostgresError as error:
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
    port = postgres_server.read_port(server)
    return f"postgresql+asyncpg://app:{password}@127.0.0.1:{port}/app"


def _publish(address: str, file: Path) -> None:
    line = f"DATABASE_URL={address}\n"
    if not file.exists() or file.read_text("utf-8") != line:
        write_private(file, line)
