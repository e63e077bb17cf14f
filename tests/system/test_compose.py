"""What containers would run, run as processes: backup, loss, restore, and PgBouncer."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import REPOSITORY, SERVICE, own_environment
from tests.system.database import run_in, running_postgres
from tests.system.pgbouncer import running_pgbouncer

Require = Callable[[str], str]

FILL = "INSERT INTO app_user (id, email, password_hash) SELECT gen_random_uuid(), n || '@x.y', 'x'"
CHECKSUM = "SELECT count(*), md5(string_agg(app_user::text, '' ORDER BY id)) FROM app_user"
SCHEMA = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public'"


@dataclass(frozen=True)
class Server:
    """PostgreSQL, its own client programs, and the scripts as they run in their container."""

    project: Path
    environment: dict[str, str]

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("sh", str(self.project / "deploy/compose" / name), *arguments)

    def query(self, sql: str) -> str:
        done = self("psql", "--no-psqlrc", "--no-align", "--tuples-only", "--command", sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def server(
    default_bake: Path, uv: str, require: Require, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("compose")
    project = Path(shutil.copytree(default_bake, folder / "project"))
    (folder / "backups").mkdir()
    with running_postgres(project, uv) as url:
        run_in(project, uv, "manage", "migrate")
        code = "from development import postgres_programs as p; print(p.find_programs().folder)"
        binaries = run_in(project, uv, "python", "-c", code)
        if shutil.which("pg_dump", path=binaries) is None:
            require("pg_dump")
        address = urlsplit(url)
        yield Server(
            project,
            own_environment()
            | {
                "PATH": f"{binaries}:{os.environ['PATH']}",
                "PGHOST": str(address.hostname),
                "PGPORT": str(address.port),
                "PGUSER": str(address.username),
                "PGPASSWORD": str(address.password),
                "PGDATABASE": address.path.strip("/"),
                "BACKUP_FOLDER": str(folder / "backups"),
                "BACKUPS_KEPT": "2",
                "GRANTS": str(project / "deploy/database/grants.sql"),
            },
        )


def test_restore_brings_back_what_was_lost(server: Server) -> None:
    server.query(f"{FILL} FROM generate_series(1, 1000) n")
    before = server.query(CHECKSUM), server.query(SCHEMA)
    assert server.script("backup.sh").returncode == 0
    server.query("DROP TABLE item CASCADE; TRUNCATE app_user CASCADE")

    refused = server.script("restore.sh")
    assert refused.returncode == 1
    assert "add --replace" in refused.stderr

    restored = server.script("restore.sh", "--replace")
    assert restored.returncode == 0, restored.stderr
    assert (server.query(CHECKSUM), server.query(SCHEMA)) == before


def test_restore_changes_nothing_when_the_dump_is_broken(server: Server, tmp_path: Path) -> None:
    whole = Path(server.script("backup.sh").stdout.strip())
    (tmp_path / "broken.dump").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    before = server.query(CHECKSUM), server.query(SCHEMA)
    broken = server.script("restore.sh", "--replace", str(tmp_path / "broken.dump"))
    assert broken.returncode == 1
    assert "Nothing was changed" in broken.stderr
    assert (server.query(CHECKSUM), server.query(SCHEMA)) == before


def test_backup_keeps_the_newest(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in ("01", "02", "03"):
        (folder / f"2026-01-{day}T000000Z.dump").touch()
    server.environment["BACKUP_FOLDER"], kept = str(folder), server.environment["BACKUP_FOLDER"]
    newest = Path(server.script("backup.sh").stdout.strip())
    server.environment["BACKUP_FOLDER"] = kept
    assert set(folder.iterdir()) == {folder / "2026-01-03T000000Z.dump", newest}


def test_pgbouncer_answers_and_limits_statements(
    server: Server, require: Require, tmp_path: Path
) -> None:
    user, password = server.environment["PGUSER"], server.environment["PGPASSWORD"]
    address = f"127.0.0.1:{server.environment['PGPORT']}"
    url = f"postgresql://{user}:{password}@{address}/{server.environment['PGDATABASE']}"
    with running_pgbouncer(require("pgbouncer"), url, tmp_path) as pooled:
        port = str(urlsplit(pooled).port)
        behind = Server(server.project, server.environment | {"PGPORT": port})
        assert behind.query("SHOW statement_timeout") == "15s"
        assert behind.query("SHOW idle_in_transaction_session_timeout") == "30s"


@pytest.fixture
def docker(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """release.sh with a stand-in for docker; what it was asked to do, in order."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sleep").write_text("#!/bin/sh\n")
    (folder / "docker").write_text(
        """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
"compose ps --quiet service") echo "$OLD" ;;
"compose ps --all --quiet service") printf '%s\\n' "$OLD" new ;;
*--scale*) exit "$SCALED" ;;
*"exec -T nginx"*) exit "$NGINX" ;;
esac
"""
    )
    for file in folder.iterdir():
        file.chmod(0o755)

    def release(old: str, scaled: str = "0", nginx: str = "0") -> tuple[int, list[str]]:
        calls = tmp_path / "calls"
        changes = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls)}
        script = REPOSITORY / SERVICE / "deploy/compose/release.sh"
        done = subprocess.run(
            [script],
            env=own_environment() | changes | {"OLD": old, "SCALED": scaled, "NGINX": nginx},
            capture_output=True,
            check=False,
        )
        return done.returncode, calls.read_text().splitlines()

    return release


def test_old_container_leaves_after_the_new_one_serves(
    docker: Callable[..., tuple[int, list[str]]],
) -> None:
    code, calls = docker(old="old")
    scaled = next(index for index, call in enumerate(calls) if "--scale service=2" in call)
    assert code == 0
    assert calls.index("compose run --rm migrate") < scaled
    assert calls.index("stop --time 40 old") > scaled
    assert "rm old" in calls


def test_old_container_stays_when_the_new_one_is_broken(
    docker: Callable[..., tuple[int, list[str]]],
) -> None:
    code, calls = docker(old="old", scaled="1")
    assert code == 1
    assert "rm --force new" in calls
    assert not [call for call in calls if call.startswith("stop")]


def test_nothing_is_started_when_nginx_refuses_its_files(
    docker: Callable[..., tuple[int, list[str]]],
) -> None:
    code, calls = docker(old="old", nginx="1")
    assert code == 1
    assert not [call for call in calls if "--scale" in call or call.startswith("stop")]


def test_everything_starts_when_nothing_runs(
    docker: Callable[..., tuple[int, list[str]]],
) -> None:
    code, calls = docker(old="")
    assert (code, calls[-1]) == (0, "compose up --detach --wait")
