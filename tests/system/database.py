"""A PostgreSQL for tests of one project, by the project's own launcher."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import own_environment


@contextmanager
def running_postgres(project: Path, uv: str) -> Iterator[str]:
    """Its address; the project gets a `.venv` and a `.local`."""
    try:
        run_in(project, uv, "manage", "database", "start")
        yield run_in(project, uv, "manage", "database", "url", "--owner")
    finally:
        run_in(project, uv, "manage", "database", "stop")


def run_in(project: Path, uv: str, *command: str) -> str:
    """In the project's own environment."""
    done = subprocess.run(
        [uv, "run", "--quiet", "--locked", "--python", sys.executable, *command],
        cwd=project,
        # The project's own database, whatever else this machine has.
        env={name: text for name, text in own_environment().items() if name != "DATABASE_URL"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
