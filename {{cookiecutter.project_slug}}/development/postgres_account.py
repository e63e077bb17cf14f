"""Who runs PostgreSQL: it refuses root, so root hands over to an unprivileged account.

Next hop: development/postgres.py.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from development.postgres_binaries import PostgresError

if sys.platform != "win32":
    import pwd

UNPRIVILEGED = ("postgres", "nobody")

# The weaker one first; containers usually lack it and have the other.
# https://man7.org/linux/man-pages/man7/capabilities.7.html
CAPABILITIES_TO_PASS = ("dac_read_search", "dac_override")


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


def choose(folder: Path, program: Path) -> Account:
    """The account that owns `folder` and runs `program`; root gives the folder away."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return Account()
    user, group, name = _unprivileged(folder)
    if folder.stat().st_uid != user:
        _give_away(folder, user, group)
    for account in _ways(user, group):
        if _works(account, folder, program):
            return account
    raise PostgresError(
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
    raise PostgresError("PostgreSQL refuses to run as root, and there is no user nobody to run it.")


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
