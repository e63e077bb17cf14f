"""deploy/systemd on a machine with systemd, by the commands of its README, beside another site."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.conftest import Bake
from tests.manifests import first_commands
from tests.system.load import Outcome, Plan, Target, run_load_until, sign_up
from tests.system.systemd_container import Machine, podman, start_machine

pytestmark = [pytest.mark.slow(4), pytest.mark.usefixtures("root")]

Require = Callable[[str], str]

DOMAIN = "shop.example.com"
LOAD = Plan(seconds=2, per_second=20)
WITHIN_SECONDS = 300
STOP_SECONDS = 40  # TimeoutStopSec in app@.service
SERVICE = "$(systemctl list-units --plain --no-legend 'shop@*.service' | cut -d ' ' -f 1)"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def machine(
    require: Require, port: int, bake_once: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """After the first commands of the README: the third `install.sh` has what it asked for."""
    answers = {"deployment": "systemd", "domain_name": DOMAIN, "project_slug": "shop"}
    project = bake_once("machine", **answers)
    with podman(require, tmp_path_factory.mktemp("podman")) as engine:
        machine = start_machine(engine, require, port)
        machine.copy(project, "/root/shop")
        follow_guide(machine, project / "deploy/systemd/README.md")
        yield machine


def follow_guide(machine: Machine, guide: Path) -> None:
    lines = first_commands(guide).replace("NAME", "shop").splitlines()
    packages, roles, *installs, check = (line.partition("  #")[0].strip() for line in lines)
    for package in packages.split("--yes")[1].split():
        machine(f"dpkg --status {package}-light >/dev/null || dpkg --status {package} >/dev/null")
    addresses = machine(f"cd /root/shop && {roles}").splitlines()
    for install, address in zip(installs, addresses, strict=False):
        asked = machine.attempt(f"cd /root/shop && {install}")
        assert asked.returncode == 1
        place = asked.stderr.split(" into ")[1].split(",")[0]
        assert asked.stderr.startswith(f"Write {address.partition('=')[0]}=")
        machine(f"echo '{address}' >>{place}")
    assert machine(f"cd /root/shop && {installs[-1]}").splitlines()[-1].startswith("shop runs ")
    assert machine(check) == '{"status":"ok"}'


@pytest.fixture(scope="module")
def target(machine: Machine, port: int) -> Target:
    return Target(port, sign_up(f"http://127.0.0.1:{port}", DOMAIN), host=DOMAIN)


def under_load(target: Target, action: Callable[[], object]) -> Outcome:
    async def run() -> Outcome:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.to_thread(action))
            return await group.create_task(run_load_until(target, LOAD, task.done, WITHIN_SECONDS))

    return asyncio.run(run())


def get(port: int, path: str, host: str = DOMAIN, **headers: str) -> httpx2.Response:
    url = f"http://127.0.0.1:{port}{path}"
    return httpx2.get(url, headers={"Host": host} | headers, timeout=60)


def items(machine: Machine) -> int:
    count = "psql --tuples-only --no-align --command 'SELECT count(*) FROM item' shop"
    return int(machine(f"cd / && runuser --user postgres -- {count}"))


def wait_until_ready(port: int, within_seconds: float = 60) -> None:
    deadline = time.monotonic() + within_seconds
    while get(port, "/readyz").status_code != httpx2.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_other_site_of_the_machine_stays_as_it_was(machine: Machine, port: int) -> None:
    assert "Welcome to nginx" in get(port, "/", host="old.example.com").text
    assert get(port, "/readyz").json() == {"status": "ok"}


def test_admin_is_closed_to_the_public_and_open_to_the_machine(machine: Machine, port: int) -> None:
    forged = {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"}
    assert get(port, "/admin/login", **forged).status_code == httpx2.codes.FORBIDDEN
    code = "curl --silent --output /dev/null --write-out '%{http_code}' localhost:8081/admin/login"
    assert machine(code) == "200"
    create = "/opt/shop/manage create-admin --email admin@example.com --password-stdin"
    assert "may log in" in machine(f"echo correct-horse-battery-staple | {create}")


def test_role_that_runs_the_service_owns_nothing(machine: Machine) -> None:
    refused = machine.attempt("/opt/shop/manage migrate && cat /etc/shop/owner.env")
    assert refused.returncode == 0  # nothing to migrate, and root may read
    as_service = "runuser --user shop -- cat /etc/shop/owner.env /etc/shop/secrets.env"
    assert "Permission denied" in machine.attempt(as_service).stderr
    drop = '. /etc/shop/secrets.env; psql "$DATABASE_URL" --command "DROP TABLE item"'
    assert "must be owner" in machine.attempt(drop).stderr


def test_release_and_rollback_lose_nothing_under_load(
    machine: Machine, target: Target, record_property: Callable[[str, object], None]
) -> None:
    machine("echo '# another release' >>/root/shop/app/main.py")
    for name, option in (("release", ""), ("rollback", " --back")):
        before, count = machine("readlink /opt/shop/current"), items(machine)
        install = f"cd /root/shop && deploy/systemd/install.sh{option}"
        outcome = under_load(target, partial(machine, install))
        record_property(f"systemd: {name}", str(outcome))
        assert outcome.failures == {}
        assert items(machine) - count == len(outcome.created)
        assert machine("readlink /opt/shop/current") != before
        assert len(machine(f"echo {SERVICE}").split()) == 1


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("raise RuntimeError", "The migration failed"),
        ('import sys; assert "gunicorn" not in sys.modules', "was not ready within"),
    ],
)
def test_broken_release_leaves_the_old_one(
    machine: Machine, target: Target, mistake: str, sentence: str
) -> None:
    machine(f"cd /root/shop && cp app/main.py /tmp && echo '{mistake}' >>app/main.py")
    before = machine(f"echo {SERVICE}")

    def install() -> None:
        done = machine.attempt("cd /root/shop && READY_WITHIN_SECONDS=8 deploy/systemd/install.sh")
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "still serves" in done.stderr

    assert under_load(target, install).failures == {}
    assert machine(f"echo {SERVICE}") == before
    # Whom a connection wakes when no release runs.
    assert machine("systemctl show --property Triggers --value shop.socket") == before
    machine("mv /tmp/main.py /root/shop/app/main.py")


def test_reload_reads_changed_settings_and_loses_nothing(
    machine: Machine, target: Target, port: int
) -> None:
    assert get(port, "/docs").status_code == httpx2.codes.NOT_FOUND
    machine("echo DOCS_ENABLED=true >>/etc/shop/app.env")

    def reload() -> None:
        machine(f"systemctl reload {SERVICE}")
        deadline = time.monotonic() + 60
        while get(port, "/docs").status_code != httpx2.codes.OK:
            assert time.monotonic() < deadline
            time.sleep(0.5)

    assert under_load(target, reload).failures == {}


def test_limits_are_seen_by_the_plan_whoever_asks(machine: Machine) -> None:
    machine("systemctl set-property shop.slice MemoryMax=600M")
    plan = machine("/opt/shop/manage capacity")
    assert "600 MiB of memory have room for 1" in plan
    machine(f"systemctl restart {SERVICE}")
    said = machine(f"journalctl --unit {SERVICE} --lines 400 --output cat")
    assert "600 MiB of memory have room for 1" in said
    machine("systemctl set-property shop.slice MemoryMax=infinity")
    machine(f"systemctl restart {SERVICE}")


def test_crash_is_repaired_and_a_stop_ends_in_its_time(machine: Machine, port: int) -> None:
    wait_until_ready(port)
    machine(f"kill -KILL $(systemctl show --property MainPID --value {SERVICE})")
    # Requests wait in the socket meanwhile.
    wait_until_ready(port)
    service = machine(f"echo {SERVICE}")
    began = time.monotonic()
    machine(f"systemctl stop {service}")
    assert time.monotonic() - began < STOP_SECONDS
    assert machine(f"systemctl show --property Result --value {service}") == "success"
    # The socket wakes it.
    wait_until_ready(port)
    assert machine(f"systemctl is-active {service}") == "active"


def test_everything_comes_back_after_a_reboot(machine: Machine, port: int) -> None:
    count = items(machine)
    machine.reboot()
    wait_until_ready(port)
    assert items(machine) == count
    assert "Welcome to nginx" in get(port, "/", host="old.example.com").text
    assert machine("systemctl --failed --no-legend") == ""
