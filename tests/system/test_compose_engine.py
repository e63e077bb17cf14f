"""The whole of deploy/compose in containers, where there is an engine to run them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.conftest import Bake, own_environment

DOMAIN = "shop.example.com"

Compose = Callable[..., str]


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Path:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"{' '.join(command)} fails: there is no engine here")
    project = bake_once("engine", deployment="compose", domain_name=DOMAIN)
    subprocess.run([sys.executable, project / "deploy/compose/credentials.py"], check=True)
    return project


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def run(project: Path, port: int) -> Iterator[Compose]:
    environment = own_environment() | {
        "COMPOSE_PROJECT_NAME": f"engine-{os.getpid()}",
        "HTTP_ADDRESS": "127.0.0.1",
        "HTTP_PORT": str(port),
    }

    def call(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=project / "deploy/compose",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    call("docker", "compose", "up", "--detach", "--build", "--wait")
    yield call
    call("docker", "compose", "--profile", "*", "down", "--volumes", "--rmi", "local")


def status(port: int) -> int:
    answer = httpx2.get(f"http://127.0.0.1:{port}/readyz", headers={"Host": DOMAIN})
    return answer.status_code


def test_service_answers_through_nginx(run: Compose, port: int) -> None:
    assert status(port) == 200


def test_release_replaces_the_container(run: Compose, port: int) -> None:
    before = run("docker", "compose", "ps", "--quiet", "service")
    run("./release.sh")
    assert run("docker", "compose", "ps", "--quiet", "service") != before
    assert status(port) == 200


def test_backup_is_written(run: Compose) -> None:
    written = run("docker", "compose", "run", "--rm", "backup")
    assert written.strip().endswith(".dump")
