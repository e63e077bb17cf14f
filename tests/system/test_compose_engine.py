"""deploy/compose on a real engine, by the commands of its README."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.conftest import Bake
from tests.manifests import first_commands
from tests.system.engine import Engine, kill, make_images, process_of, running_engine
from tests.system.load import Outcome, Plan, Target, run_load_until, sign_up

pytestmark = pytest.mark.engine

Require = Callable[[str], str]

DOMAIN = "shop.example.com"
LOAD = Plan(seconds=2, per_second=20)
WITHIN_SECONDS = 300
ADMIN = {"username": "admin@example.com", "password": "correct horse battery staple"}
# What the role that runs the service is refused, and one statement that it is not.
FORBIDDEN = (
    "DROP TABLE item",
    "CREATE TABLE x ()",
    "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
    "UPDATE audit_entry SET action = ''",
    "DELETE FROM audit_entry",
    "TRUNCATE audit_entry",
    "UPDATE alembic_version SET version_num = ''",
    "CREATE ROLE x",
    "SELECT pg_read_file('/etc/passwd')",
)
ASK_ALL = """
import asyncio, asyncpg, pathlib
async def main():
    connection = await asyncpg.connect(pathlib.Path("/run/secrets/database_url").read_text())
    for sql in {statements!r}:
        try:
            await connection.execute(sql)
            print("done", sql)
        except asyncpg.InsufficientPrivilegeError:
            pass
asyncio.run(main())
"""


@dataclass(frozen=True)
class Compose:
    """A service's folder, and what its operator types there."""

    engine: Engine
    folder: Path
    settings: dict[str, str]

    @property
    def port(self) -> int:
        return int(self.settings["HTTP_PORT"])

    @property
    def local(self) -> str:
        return f"http://localhost:{self.settings['LOCAL_PORT']}"

    def __call__(self, *arguments: str) -> str:
        return self.engine("docker", "compose", *arguments, cwd=self.folder, **self.settings)

    def container(self, service: str) -> str:
        return self("ps", "--quiet", service)

    def sql(self, statement: str) -> str:
        password = "PGPASSWORD=$(cat /run/secrets/postgres_password)"
        psql = f'{password} psql -qtAX -U postgres -d service -c "$0"'
        return self("exec", "--no-TTY", "postgres", "sh", "-c", psql, statement)

    def release(self, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """As the README says it: from the folder of the service."""
        project = self.folder.parents[1]
        command = ["deploy/compose/release.sh", *options]
        return self.engine.attempt(*command, cwd=project, **self.settings, **settings)

    def set(self, *lines: str) -> None:
        with (self.folder / ".env").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def get(self, path: str, host: str = DOMAIN) -> int:
        """By the public way in."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx2.get(url, headers={"Host": host}, timeout=10).status_code

    def get_locally(self, path: str) -> int:
        return httpx2.get(f"{self.local}{path}", timeout=10).status_code

    def wait_until_ready(self, within_seconds: float = 90) -> float:
        began = time.monotonic()
        while time.monotonic() < began + within_seconds:
            with suppress(httpx2.HTTPError):
                if self.get_locally("/readyz") == 200:
                    return time.monotonic() - began
            time.sleep(0.2)
        raise AssertionError(self("logs", "--tail", "20"))


@pytest.fixture(scope="module")
def engine(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("only root can run a container engine")
    folder = tmp_path_factory.mktemp("engine")
    with running_engine(require, folder) as engine:
        make_images(engine, require)
        yield engine


def bake(bake_once: Bake, slug: str) -> Path:
    answers = {"deployment": "compose", "domain_name": DOMAIN, "project_slug": slug}
    return bake_once(slug, **answers) / "deploy/compose"


@pytest.fixture(scope="module")
def shop(engine: Engine, bake_once: Bake) -> Compose:
    """Started by the first lines of its README, pasted into a shell; only the ports are others."""
    ports = {"HTTP_PORT": str(free_port()), "LOCAL_PORT": str(free_port())}
    shop = Compose(engine, bake(bake_once, "shop"), ports | {"HTTPS_PORT": str(free_port())})
    commands = first_commands(shop.folder / "README.md").replace("8081", ports["LOCAL_PORT"])
    project = shop.folder.parents[1]
    said = engine("bash", "-euc", commands, cwd=project, **shop.settings)
    assert said.endswith('{"status":"ok"}'), said
    # The version before, for those that go back to it.
    engine("docker", "tag", "shop:latest", "shop:before")
    return shop


@pytest.fixture(scope="module")
def target(shop: Compose) -> Target:
    return Target(shop.port, sign_up(f"http://127.0.0.1:{shop.port}", DOMAIN), host=DOMAIN)


def under_load(target: Target, action: Callable[[], object]) -> Outcome:
    async def run() -> Outcome:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.to_thread(action))
            return await group.create_task(run_load_until(target, LOAD, task.done, WITHIN_SECONDS))

    return asyncio.run(run())


def test_public_door_knows_its_name_and_hides_the_admin(shop: Compose) -> None:
    assert shop.get("/readyz") == 200
    assert shop.get("/readyz", host="localhost") == 421
    assert shop.get("/admin/login") == 403
    assert shop.get("/metrics") == 404


def test_admin_logs_in_through_the_door_of_this_machine(shop: Compose) -> None:
    """What `ssh -L` leads to."""
    command = ("run", "--rm", "--no-TTY", "service", "manage", "create-admin")
    done = subprocess.run(
        ["docker", "compose", *command, "--email", ADMIN["username"], "--password-stdin"],
        cwd=shop.folder,
        env=shop.engine.environment | shop.settings,
        input=ADMIN["password"] + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = httpx2.post(
        f"{shop.local}/admin/login", data=ADMIN, headers={"Origin": shop.local}, timeout=10
    )
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"].endswith("/admin/")


def test_every_setting_reaches_the_service(shop: Compose) -> None:
    shop.set("SMTP_HOST=smtp.example.com", "PUBLIC_URL=https://links.example.com")
    shop("up", "--detach", "--wait")
    code = "from app.settings import Settings as S; s = S.load(); print(s.smtp_host, s.public_url)"
    said = shop("exec", "--no-TTY", "service", "python", "-c", code)
    assert said == "smtp.example.com https://links.example.com/"


def test_role_that_runs_the_service_changes_no_table_and_no_audit_log(shop: Compose) -> None:
    code = ASK_ALL.format(statements=(*FORBIDDEN, "SELECT 1 FROM item"))
    assert shop("exec", "--no-TTY", "service", "python", "-c", code) == "done SELECT 1 FROM item"


def released(shop: Compose, *options: str, **settings: str) -> None:
    done = shop.release(*options, **settings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_release_finds_its_files_when_the_shell_names_them(shop: Compose) -> None:
    relative = {"COMPOSE_FILE": "deploy/compose/compose.yaml", "TAG": "before"}
    released(shop, "--no-build", **relative)
    assert shop.get("/readyz") == 200


def test_broken_release_leaves_the_old_one(shop: Compose, target: Target) -> None:
    old = shop.container("service")
    broken = 'FROM shop:before\nCMD ["python", "-c", "import time; time.sleep(600)"]\n'
    shop.engine.build_image("shop:broken", broken)

    def release() -> None:
        done = shop.release("--no-build", TAG="broken")
        assert done.returncode == 1
        assert "the one before still serves" in done.stderr

    assert under_load(target, release).failures == {}
    assert shop.container("service") == old


def test_killed_container_comes_back(shop: Compose, target: Target) -> None:
    for service in ("service", "nginx", "postgres"):
        kill(process_of(shop.engine, shop.container(service)))
        assert shop.wait_until_ready() < 60


def test_container_lives_on_when_its_memory_limit_is_met(shop: Compose) -> None:
    started = "{{.State.StartedAt}} {{.RestartCount}}"
    before = shop.engine("docker", "inspect", "--format", started, shop.container("service"))
    command = (
        "docker",
        "compose",
        "exec",
        "--no-TTY",
        "service",
        "python",
        "-c",
        "bytearray(2 << 30)",
    )
    assert shop.engine.attempt(*command, cwd=shop.folder, **shop.settings).returncode == 137
    assert shop.get("/readyz") == 200
    after = shop.engine("docker", "inspect", "--format", started, shop.container("service"))
    assert after == before
