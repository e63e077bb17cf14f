"""PgBouncer with the configuration that deploy/compose ships, in front of a test's PostgreSQL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from development.ports import free_port
from tests.conftest import REPOSITORY, SERVICE
from tests.servers import listens, running
from tests.system.database import run_in, running_postgres
from tests.system.stack import Stack, serve

SHIPPED = REPOSITORY / SERVICE / "deploy/compose/pgbouncer.ini"


@contextmanager
def running_pgbouncer(binary: str, url: str, folder: Path) -> Iterator[str]:
    """The address that the service uses instead; only places and ports differ from what ships."""
    address, port = urlsplit(url), free_port()
    # A name without folders: PgBouncer runs as another user, who may not enter those of pytest.
    folder.chmod(0o755)
    (folder / "pgbouncer_users").write_text(f'"{address.username}" "{address.password}"\\n')
    changes = {
        "host=postgres port=5432": f"host={address.hostname} port={address.port}",
        "listen_port = 6432": f"listen_port = {port}",
        "/run/secrets/pgbouncer_users": "pgbouncer_users",
    }
    text = SHIPPED.read_text()
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    (folder / "pgbouncer.ini").write_text(text)
    command = (binary, *_user(), "pgbouncer.ini")
    with running(command, folder / "log", lambda: listens(port)):
        yield url.replace(f":{address.port}/", f":{port}/")


@contextmanager
def serve_behind_pgbouncer(project: Path, uv: str, binary: str, folder: Path) -> Iterator[Stack]:
    """With the service's one switch for it."""
    command = (project / ".venv/bin/python", "-m", "development.serve")
    with running_postgres(project, uv) as url:
        # Past the pooler, as in compose.yaml: the lock of a migration belongs to a session.
        run_in(project, uv, "manage", "migrate")
        with running_pgbouncer(binary, url, folder) as pooled:
            switch = {"DATABASE_PGBOUNCER": "true", "DATABASE_URL": pooled}
            with serve(project, uv, command, **switch) as stack:
                yield stack


def _user() -> list[str]:
    # It refuses to run as root.
    return ["--user", "nobody"] if os.geteuid() == 0 else []
