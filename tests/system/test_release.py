"""compose's release.sh as processes: nginx finds the new container, the old one leaves, no loss.

The image, the environment of compose.yaml, its nginx files on a current nginx, a name server.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from development.ports import free_port
from tests.servers import wait_until
from tests.system.edge import Nginx, lay_out
from tests.system.image import Container, Image
from tests.system.load import Outcome, Plan, Target, run_load_until, sign_up
from tests.system.names import Names, name_server

pytestmark = pytest.mark.slow

STOP_GRACE_SECONDS = 40  # in compose.yaml
RELEASED_WITHIN_SECONDS = 90
LOAD = Plan(seconds=3, per_second=100)
OLD, NEW = "127.0.10.1", "127.0.10.2"

Start = Callable[[str], Container]


@dataclass(frozen=True)
class Ports:
    app: int = field(default_factory=free_port)
    nginx: int = field(default_factory=free_port)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def start(
    image: Image, image_project: Path, secrets: Path, migrated: str, ports: Ports
) -> Iterator[Start]:
    """A container of the service as compose.yaml has it, at an address of its own."""
    text = (image_project / "deploy/compose/compose.yaml").read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    shipped = yaml.safe_load(text)["services"]["service"]["environment"]
    # nginx is not on the network that it believes, but here.
    changes = {"APP_PORT": ports.app, "FORWARDED_ALLOW_IPS": "127.0.0.0/8"}
    settings = {name: str(value) for name, value in (shipped | changes).items()}
    started: list[Container] = []

    def start_at(address: str) -> Container:
        log = secrets.with_name(f"{address}.log")
        command = image.list_of("Cmd")
        started.append(image.start(secrets, log, *command, **settings, APP_HOST=address))
        started[-1].wait_until_ready()
        return started[-1]

    yield start_at
    for container in started:
        container.kill()


@pytest.fixture
def names(nginx_of: Callable[[str], Nginx], ports: Ports, tmp_path: Path) -> Iterator[Names]:
    """What the name `service` means to the nginx that runs meanwhile."""
    with name_server() as names:
        names.addresses = [OLD]
        changes = {
            "server service:8000 resolve": f"server service:{ports.app} resolve",
            "listen 8081": f"listen 127.0.0.1:{free_port()}",
            "listen 80": f"listen 127.0.0.1:{ports.nginx}",
            "resolver 127.0.0.11": f"resolver 127.0.0.11:{names.port}",
            # All clients are one here.
            "rate=50r/s": "rate=10000r/s",
        }
        folder = lay_out("compose", tmp_path / "nginx", changes)
        with nginx_of("forky").running(folder, ports.nginx):
            yield names


def test_new_version_takes_over_without_losing_a_request(
    start: Start, names: Names, ports: Ports, record_property: Callable[[str, object], None]
) -> None:
    old = start(OLD)
    target = Target(ports.nginx, sign_up(f"http://localhost:{ports.nginx}"))
    outcome, seconds, code = asyncio.run(release_under_load(start, names, old, target))
    record_property("release in compose", str(outcome))
    record_property("release in compose: seconds to stop", round(seconds, 1))
    assert code == 0
    assert seconds < STOP_GRACE_SECONDS
    assert outcome.failures == {}
    new_log = old.log.with_name(f"{NEW}.log").read_text()
    assert '"path":"/api/v1/items"' in new_log


async def release_under_load(
    start: Start, names: Names, old: Container, target: Target
) -> tuple[Outcome, float, int]:
    async with asyncio.TaskGroup() as group:
        release = group.create_task(asyncio.to_thread(replace, start, names, old))
        load = run_load_until(target, LOAD, release.done, RELEASED_WITHIN_SECONDS)
        outcome = await load
    seconds, code = release.result()
    return outcome, seconds, code


def replace(start: Start, names: Names, old: Container) -> tuple[float, int]:
    """What release.sh does; how long the old container took to end, and its exit code."""
    new = start(NEW)
    names.addresses = [OLD, NEW]
    wait_until(lambda: '"path":"/api' in new.log.read_text(), "nginx finds the new container")
    began = time.monotonic()
    os.kill(old.first_process(), signal.SIGTERM)
    code = old.end()
    names.addresses = [NEW]
    return time.monotonic() - began, code
