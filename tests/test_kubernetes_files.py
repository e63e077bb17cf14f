"""The manifests: valid in old and new clusters, restricted, with numbers that fit together."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Bake, own_environment
from tests.manifests import (
    DEPLOY,
    GRACEFUL_SECONDS,
    Kustomize,
    Tool,
    checker,
    kustomizer,
    look,
    mapping,
    number,
    of_kind,
)

CHECKOV = "checkov==3.3.30"
KUBERNETES_VALIDATE = "kubernetes-validate==1.37.0"
# The oldest and newest schema that it brings.
KUBERNETES_VERSIONS = ("1.25", "1.37")
MAX_CONNECTIONS = 100  # PostgreSQL's default
CONNECTIONS_FOR_PEOPLE = 10
KUBECTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
kustomize*) echo "$RENDERED" ;;
*condition=complete*) [ "$JOB" = complete ] ;;
*condition=failed*) [ "$JOB" = failed ] ;;
"rollout status"*) [ "$ROLLOUT" = up ] ;;
esac
"""

Release = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="session")
def tool(uv: str) -> Tool:
    return checker(uv)


@pytest.fixture(scope="module")
def kustomize(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Kustomize:
    return kustomizer(require, tmp_path_factory.mktemp("kubectl"))


@pytest.mark.parametrize("overlay", ["production", "staging"])
def test_manifests_are_valid_in_old_and_new_clusters(
    bake: Bake, kustomize: Kustomize, tool: Tool, tmp_path: Path, overlay: str
) -> None:
    project = bake(deployment="kubernetes", domain_name="shop.example.com")
    objects = kustomize(project, overlay)
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    for version in KUBERNETES_VERSIONS:
        options = ["--strict", "--quiet", "-k", version]
        tool(KUBERNETES_VALIDATE, "kubernetes-validate", *options, tmp_path / "all.yaml")
    host = look(of_kind(objects, "Ingress"), "spec.rules.0.host")
    assert host == {"production": "", "staging": "staging."}[overlay] + "shop.example.com"


def test_manifests_are_clean(kustomize: Kustomize, tool: Tool, tmp_path: Path) -> None:
    """What checkov finds and we want stands in the manifests, with the reason."""
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(kustomize(DEPLOY.parent)))
    options = ["--framework", "kubernetes", "--compact", "--quiet", "--skip-download"]
    tool(CHECKOV, "checkov", *options, "--file", tmp_path / "all.yaml")


def test_pods_are_restricted_and_stop_on_the_ladder(
    kustomize: Kustomize,
) -> None:
    pod = mapping(of_kind(kustomize(DEPLOY.parent), "Deployment", "service"), "spec.template.spec")
    assert look(pod, "automountServiceAccountToken") is False
    assert look(pod, "securityContext.runAsNonRoot") is True
    containers = look(pod, "containers")
    assert isinstance(containers, list)
    for container in containers:
        assert look(container, "securityContext.readOnlyRootFilesystem") is True
        assert look(container, "securityContext.allowPrivilegeEscalation") is False
        assert look(container, "securityContext.capabilities.drop") == ["ALL"]
    service = number(containers[0], "lifecycle.preStop.exec.command.1")
    nginx = number(containers[1], "lifecycle.preStop.exec.command.2")
    assert nginx < service
    assert service + GRACEFUL_SECONDS < number(pod, "terminationGracePeriodSeconds")


def test_most_pods_fit_into_the_connections(kustomize: Kustomize) -> None:
    objects = kustomize(DEPLOY.parent)
    pods = number(of_kind(objects, "HorizontalPodAutoscaler"), "spec.maxReplicas")
    surge = number(
        of_kind(objects, "Deployment", "service"), "spec.strategy.rollingUpdate.maxSurge"
    )
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


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """release.sh from another folder, with a stand-in for kubectl; its code and what it asked."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)

    def run(**answers: str) -> tuple[int, list[str]]:
        calls = tmp_path / "calls"
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
        done = subprocess.run(
            [DEPLOY / "kubernetes/release.sh", "staging"],
            cwd=tmp_path,
            env=own_environment() | {"JOB": "complete", "ROLLOUT": "up"} | own | answers,
            check=False,
        )
        return done.returncode, [
            " ".join(call.split()[:2]) for call in calls.read_text().splitlines()
        ]

    return run


def test_release_migrates_before_it_rolls_out(release: Release) -> None:
    migration = ["kustomize staging", "delete job", "apply --kustomize", "wait job/migrate"]
    assert release() == (0, [*migration, "apply --kustomize", "rollout status"])


def test_release_is_refused_when_nobody_named_the_ingress(release: Release) -> None:
    assert release(RENDERED="set_real_ip_from 192.0.2.0/24;") == (2, ["kustomize staging"])


def test_nothing_is_rolled_out_when_the_migration_fails(release: Release) -> None:
    code, calls = release(JOB="failed")
    assert (code, calls.count("apply --kustomize"), calls[-1]) == (1, 1, "logs job/migrate")


def test_release_is_undone_when_it_does_not_come_up(release: Release) -> None:
    code, calls = release(ROLLOUT="stuck")
    assert (code, calls[-1]) == (1, "rollout undo")
