"""`manage doctor` on each generated deployment, with its own settings and a live database."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import Bake, own_environment
from tests.system.database import run_in, running_postgres

COMPOSE = "deploy/compose/compose.yaml"
DEPLOYMENTS = ("compose", "kubernetes", "systemd")
# What every guide asks for.
BY_HAND = {"PUBLIC_URL": "https://service.example.com", "SMTP_HOST": "smtp.example.com"}
# The .env of a developer lies in the folder; no container has it.
NOT_OF_THE_DEVELOPER = {"LOG_FORMAT": "json"}
# Depends on the machine of the tests, not on the deployment.
OF_THE_MACHINE = {"kernel"}


@dataclass(frozen=True)
class Services:
    """One of each deployment; the environment of the first runs them all: their code is one."""

    projects: dict[str, Path]
    database_url: str

    def doctor(self, deployment: str, folder: Path) -> tuple[int, list[dict[str, str]]]:
        done = subprocess.run(
            [self.projects[DEPLOYMENTS[0]] / ".venv/bin/manage", "doctor", "--json"],
            cwd=folder,
            env=own_environment()
            | {"DATABASE_URL": self.database_url}
            | NOT_OF_THE_DEVELOPER
            | BY_HAND
            | SETTINGS[deployment](folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, [
            one
            for one in findings
            if one["severity"] != "note" and one["check"] not in OF_THE_MACHINE
        ]


def compose_settings(folder: Path) -> dict[str, str]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (folder / COMPOSE).read_text())
    settings = yaml.safe_load(text)["services"]["service"]["environment"]
    return {name: str(value) for name, value in settings.items()}


def kubernetes_settings(folder: Path) -> dict[str, str]:
    base = folder / "deploy/kubernetes/base"
    return read_lines(base / "names.env") | read_lines(base / "settings.env")


def systemd_settings(folder: Path) -> dict[str, str]:
    return read_lines(folder / "deploy/systemd/app.env")


SETTINGS = {
    "compose": compose_settings,
    "kubernetes": kubernetes_settings,
    "systemd": systemd_settings,
}


def read_lines(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", file.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def services(bake_once: Bake, uv: str) -> Iterator[Services]:
    projects = {name: bake_once(f"doctor-{name}", deployment=name) for name in DEPLOYMENTS}
    first = projects[DEPLOYMENTS[0]]
    with running_postgres(first, uv) as url:
        run_in(first, uv, "manage", "migrate")
        yield Services(projects, url)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_doctor_finds_nothing_in_a_generated_service(services: Services, deployment: str) -> None:
    assert services.doctor(deployment, services.projects[deployment]) == (0, [])


# One number in each kind of file: what stands there, and what somebody might write instead.
BROKEN = {
    "compose": {
        COMPOSE: (r"(30 s\).*\n +stop_grace_period:) 40s", r"\1 9s"),
        "deploy/compose/pgbouncer.ini": ("lock_timeout = 5000", "lock_timeout = 50000"),
        "deploy/nginx/http/proxy.conf": ("read_timeout 30s", "read_timeout 20s"),
        "gunicorn.conf.py": ("keepalive = .*", "keepalive = 2"),
    },
    "kubernetes": {
        "deploy/kubernetes/base/deployment.yaml": ("Seconds: 45", "Seconds: 30"),
        "deploy/kubernetes/base/settings.env": ("WEB_CONCURRENCY=1", "WEB_CONCURRENCY=4"),
        "deploy/nginx/http/client.conf": ("body_size 1m", "body_size 2m"),
    },
    "systemd": {
        "deploy/systemd/app@.service": ("StopSec=40s", "StopSec=20s"),
        "deploy/systemd/app.env": ("LOG_LEVEL=info", "REQUEST_DEADLINE_SECONDS=28"),
        "deploy/nginx/nginx.conf": ("shutdown_timeout 35s", "shutdown_timeout 25s"),
    },
}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_doctor_names_each_file_with_a_broken_number(
    services: Services, tmp_path: Path, deployment: str
) -> None:
    folder = tmp_path / "service"
    leave_out = shutil.ignore_patterns(".venv", ".local")
    shutil.copytree(services.projects[deployment], folder, ignore=leave_out)
    for name, (pattern, broken) in BROKEN[deployment].items():
        text, count = re.subn(pattern, broken, (folder / name).read_text())
        assert count == 1, name
        (folder / name).write_text(text)
    with (folder / ".env").open("a") as file:
        file.write("DATABASE_CONNECT_TIMEOUT_SECONDS=29\n")
    code, findings = services.doctor(deployment, folder)
    named = {one["where"].split(":")[0] for one in findings}
    assert code == 1
    assert named >= BROKEN[deployment].keys() | {"DATABASE_CONNECT_TIMEOUT_SECONDS"}
