"""deploy/compose on a real engine, by the commands of its README: up, released, lost, restored."""

import asyncio
import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.conftest import Bake
from tests.manifests import first_commands
from tests.system.container_images import make_images
from tests.system.engine import Engine, kill, process_of, running_engine
from tests.system.load import Outcome, Plan, Target, run_load_until, sign_up

pytestmark = [pytest.mark.slow(8), pytest.mark.usefixtures("root")]

Require = Callable[[str], str]

DOMAIN = "shop.example.com"
COMPOSE_FILE = "deploy/compose/compose.yaml"
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
RIGHTS = """
SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type)
FROM information_schema.role_table_grants WHERE grantee = 'service' AND table_name = '{table}'
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

    @contextmanager
    def setting(self, *lines: str) -> Iterator[None]:
        file = self.folder / ".env"
        former = file.read_text()
        file.write_text("\n".join([former, *lines, ""]))
        try:
            yield
        finally:
            file.write_text(former)

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


def items(shop: Compose) -> int:
    return int(shop.sql("SELECT count(*) FROM item"))


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
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].endswith("/admin/login/set-up")


def test_every_setting_reaches_the_service(shop: Compose) -> None:
    with shop.setting("SMTP_HOST=smtp.example.com", "PUBLIC_URL=https://links.example.com"):
        shop("up", "--detach", "--wait")
    code = "from app.settings import Settings as S; s = S.load(); print(s.smtp_host, s.public_url)"
    said = shop("exec", "--no-TTY", "service", "python", "-c", code)
    assert said == "smtp.example.com https://links.example.com/"


def test_role_that_runs_the_service_changes_no_table_and_no_audit_log(shop: Compose) -> None:
    code = ASK_ALL.format(statements=(*FORBIDDEN, "SELECT 1 FROM item"))
    assert shop("exec", "--no-TTY", "service", "python", "-c", code) == "done SELECT 1 FROM item"


def test_release_and_rollback_lose_nothing_under_load(
    shop: Compose, target: Target, record_property: Callable[[str, object], None]
) -> None:
    shop.engine("docker", "tag", "shop:latest", "shop:before")
    for name, options, settings in (
        ("release", (), {}),
        # A relative COMPOSE_FILE counts from where one stands.
        ("rollback", ("--no-build",), {"TAG": "before", "COMPOSE_FILE": COMPOSE_FILE}),
    ):
        old, count = shop.container("service"), items(shop)
        outcome = under_load(target, partial(released, shop, *options, **settings))
        record_property(f"compose engine: {name}", str(outcome))
        assert outcome.failures == {}
        assert tried_twice(shop) == []
        assert items(shop) - count == len(outcome.created)
        assert shop.container("service") not in ("", old)
    image = shop.engine(
        "docker", "inspect", "--format", "{{.Config.Image}}", shop.container("service")
    )
    assert image == "shop:before"


def tried_twice(shop: Compose) -> list[str]:
    """Requests that nginx sent to a container that does not serve, whether or not another did."""
    return re.findall(r'"upstream":"[^"]*,.*', shop("logs", "--no-log-prefix", "nginx"))


def released(shop: Compose, *options: str, **settings: str) -> None:
    done = shop.release(*options, **settings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_broken_release_leaves_the_old_one(shop: Compose, target: Target) -> None:
    old = shop.container("service")
    broken = 'FROM shop:before\nCMD ["python", "-c", "import time; time.sleep(600)"]\n'
    shop.engine.build_image("shop:broken", broken)

    def release() -> None:
        done = shop.release("--no-build", TAG="broken")
        assert done.returncode == 1
        assert "the one before still serves" in done.stderr

    assert under_load(target, release).failures == {}
    assert tried_twice(shop) == []
    assert shop.container("service") == old


def test_restore_brings_back_what_was_lost(shop: Compose) -> None:
    before = items(shop)
    assert before > 0
    assert shop("run", "--rm", "--no-TTY", "backup").endswith(".dump")
    shop.sql("DROP TABLE item CASCADE; TRUNCATE app_user CASCADE")
    shop("stop", "service", "jobs")
    shop("run", "--rm", "--no-TTY", "restore", "--replace")
    shop("start", "service", "jobs")
    shop.wait_until_ready()
    assert items(shop) == before
    # With the rights of before, no more and no less.
    assert rights_on(shop, "audit_entry") == "INSERT SELECT"
    assert rights_on(shop, "item") == "DELETE INSERT SELECT UPDATE"


def rights_on(shop: Compose, table: str) -> str:
    return shop.sql(RIGHTS.format(table=table))


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


def test_full_disk_for_logs_costs_no_answer(shop: Compose, target: Target) -> None:
    with shop.engine.full_log_disk():
        outcome = under_load(target, lambda: time.sleep(5))
    assert outcome.failures == {}
    assert outcome.created


def test_full_folder_for_bodies_costs_only_large_ones(shop: Compose, target: Target) -> None:
    """nginx keeps bodies over 64 KiB there."""
    fill = "dd if=/dev/zero of=/tmp/ballast bs=1M 2>/dev/null; dd if=/dev/zero bs=1 >>/tmp/ballast"
    shop.engine.attempt("docker", "exec", shop.container("nginx"), "sh", "-c", fill)
    try:
        assert under_load(target, lambda: None).failures == {}
        large = httpx2.post(f"{shop.local}/api/v1/items", content=b"x" * 200_000, timeout=10)
        assert large.status_code == 500
    finally:
        shop.engine("docker", "exec", shop.container("nginx"), "sh", "-c", "rm /tmp/ballast")
    assert httpx2.post(f"{shop.local}/api/v1/items", content=b"x" * 200_000).status_code == 401


def test_service_serves_again_when_its_name_was_gone(shop: Compose, target: Target) -> None:
    """Off the network of nginx, as when Docker's name server knows it no more."""
    service = shop.container("service")
    networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}"
    [edge] = [
        name
        for name in shop.engine("docker", "inspect", "--format", networks, service).split()
        if name.endswith("_edge")
    ]

    def lose_the_name() -> None:
        shop.engine("docker", "network", "disconnect", edge, service)
        time.sleep(5)
        shop.engine("docker", "network", "connect", "--alias", "service", edge, service)
        shop.wait_until_ready()

    seen = under_load(target, lose_the_name).failures
    assert set(seen) <= {"GET 502", "POST 502", "GET 504", "POST 504"}


def test_pgbouncer_stands_between_when_it_is_switched_on(shop: Compose, target: Target) -> None:
    lines = ("COMPOSE_PROFILES=pgbouncer", "DATABASE_PGBOUNCER=true", "DATABASE_VIA=pgbouncer")
    with shop.setting(*lines):
        build_pgbouncer(shop)
        shop("up", "--detach", "--wait")
        assert under_load(target, lambda: None).failures == {}
        clients = "SELECT count(DISTINCT client_addr) FROM pg_stat_activity"
        assert shop.sql(f"{clients} WHERE usename = 'service'") == "1"

        def kill_pgbouncer() -> None:
            kill(process_of(shop.engine, shop.container("pgbouncer")))
            shop.wait_until_ready()

        seen = under_load(target, kill_pgbouncer).failures
        assert set(seen) <= {"GET 503", "POST 503"}
        shop("rm", "--stop", "--force", "pgbouncer")


def build_pgbouncer(shop: Compose) -> None:
    """The builder in the engine takes its Dockerfile from a file only."""
    services = json.loads(shop("config", "--format", "json"))["services"]
    dockerfile = services["pgbouncer"]["build"]["dockerfile_inline"]
    shop.engine.build_image(services["pgbouncer"]["image"], dockerfile)


def test_tls_is_one_line_and_a_folder(shop: Compose, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_certificate(tmp_path)
    with shop.setting("COMPOSE_FILE=compose.yaml:compose.tls.yaml", f"TLS_DIR={tmp_path}"):
        shop("up", "--detach", "--wait")
    context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    url = f"https://127.0.0.1:{shop.settings['HTTPS_PORT']}/readyz"
    with httpx2.Client(verify=context) as client:
        answer = client.get(url, headers={"Host": DOMAIN}, extensions={"sni_hostname": DOMAIN})
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"]
        shop("exec", "--no-TTY", "nginx", "nginx", "-s", "reload")
    assert shop.get("/readyz") == 308
    assert shop.get_locally("/readyz") == 200


def make_certificate(folder: Path) -> None:
    names = ["-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}"]
    files: list[str | Path] = ["-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    (folder / "privkey.pem").chmod(0o444)


def test_two_services_run_side_by_side(shop: Compose, bake_once: Bake) -> None:
    ports = {"HTTP_PORT": str(free_port()), "LOCAL_PORT": str(free_port())}
    # The image of the first, to spare the time of building a second.
    settings = ports | {"IMAGE": "shop", "TAG": "before"}
    other = Compose(shop.engine, bake(bake_once, "store"), settings)
    other.engine("python3", "credentials.py", cwd=other.folder)
    other("up", "--detach", "--wait")
    try:
        assert other.get("/readyz") == 200
        assert shop.get_locally("/readyz") == 200
        names = [
            re.findall(r"^EDGE_NETWORK=.*", (one.folder / ".env").read_text(), re.M)
            for one in (shop, other)
        ]
        assert names[0] != names[1]
    finally:
        other("down", "--volumes")


def test_everything_comes_back_when_the_engine_was_restarted(shop: Compose) -> None:
    count = items(shop)
    shop.engine.stop()
    shop.engine.start()
    shop.wait_until_ready()
    assert items(shop) == count
