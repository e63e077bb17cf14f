"""All files of a deployment: what is wrong in them, and the timeouts that they set.

A kind of file is a module here: `read_…` finds its values with file and line and breaks of its
rules, `…_timeouts` what takes part in the order of timeouts.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor.files import compose, kubernetes, nginx, nginx_checks, pgbouncer, systemd
from doctor.files.deployment import Deployment, check_deployment, settings_of, values_by_timeout
from doctor.finding import Finding, mistake
from doctor.settings import AllSettings
from doctor.timeouts import Values

# What a deployment lays over deploy/nginx/site.
_OVERLAYS = {
    "compose": compose.NGINX_SITE,
    "kubernetes": kubernetes.NGINX_SITE,
    "systemd": systemd.NGINX_SITE,
}
_LOOPBACK = ("127.", "[::1]", "unix:")
# The name of the service in a unix socket: what install.sh and systemd write.
_SERVICE_NAME = re.compile(r"NAME|%[pNn]")


@dataclass(frozen=True)
class Lint:
    findings: Sequence[Finding]
    timeouts: Sequence[Values]
    has_unix_socket: bool


def lint_files(root: Path, settings: AllSettings) -> Lint:
    deployments: list[Deployment] = []
    findings: list[Finding] = []
    for read in (compose.read_compose, kubernetes.read_kubernetes, systemd.read_systemd):
        found, mistakes = read(root)
        deployments.extend(found)
        findings.extend(mistakes)
    kinds = {one.kind for one in deployments}
    trees, refused = nginx.read_nginx(root, {kind: _OVERLAYS[kind] for kind in kinds})
    pooler = pgbouncer.read_pgbouncer(root)
    findings.extend(refused)
    body_bytes = {
        one.kind: settings_of(one, settings).max_body_bytes
        for one in deployments
        if not one.is_nginx
    }
    for kind, tree in trees.items():
        limit = body_bytes.get(kind, settings.max_body_bytes)
        findings.extend(nginx_checks.check_nginx(tree, limit))
    findings.extend(pgbouncer.check_pgbouncer(pooler, settings.database_connection_budget))
    for deployment in deployments:
        findings.extend(check_deployment(deployment, settings))
        if deployment.kind in trees:
            own = settings_of(deployment, settings)
            findings.extend(_check_ports(deployment, trees[deployment.kind], own.metrics_port))
    if not (root / nginx.MAIN).exists() or not deployments:
        missing = nginx.MAIN if deployments else Path("deploy")
        findings.append(mistake("file_missing", str(missing)))
    return Lint(
        list(dict.fromkeys(findings)),
        timeouts=(
            *(nginx_checks.nginx_timeouts(tree) for tree in trees.values()),
            values_by_timeout(deployments),
            pgbouncer.pgbouncer_timeouts(pooler),
        ),
        has_unix_socket=any(one.has_unix_socket for one in deployments),
    )


def _check_ports(deployment: Deployment, tree: nginx.Block, metrics_port: int) -> Iterator[Finding]:
    """Between nginx and gunicorn, and between nginx and its container."""
    expected = _SERVICE_NAME.sub("*", deployment.listens)
    for server in nginx_checks.upstream_servers(tree):
        if expected and _SERVICE_NAME.sub("*", server.value) != expected:
            yield mistake(
                "upstream_port", server.where, address=server.value, listens=deployment.listens
            )
    if deployment.is_nginx:
        yield from _check_published(deployment, tree)
    if deployment.kind != "compose":
        yield from _check_local(tree)
        if str(metrics_port) in nginx_checks.listening_ports(tree):
            written = deployment.environment.get("METRICS_PORT")
            where = written.where if written else deployment.where
            yield mistake("metrics_port", where, port=metrics_port)


def _check_published(deployment: Deployment, tree: nginx.Block) -> Iterator[Finding]:
    listening = nginx_checks.listening_ports(tree)
    local = {one.value.rpartition(":")[2] for one in nginx_checks.local_addresses(tree)}
    for port in deployment.ports:
        inside = port.value.rpartition(":")[2]
        if inside not in listening:
            yield mistake("published_port", port.where, port=inside)
        if inside in local and not port.value.startswith(_LOOPBACK):
            yield mistake("local_port_open", port.where, port=inside)
    workers = tree.entry("worker_processes")
    if workers and workers.value == "auto":
        yield mistake("too_many_nginx", workers.where)


def _check_local(tree: nginx.Block) -> Iterator[Finding]:
    """Where nginx is in no network of its own."""
    for one in nginx_checks.local_addresses(tree):
        if ":" not in one.value or not one.value.startswith(_LOOPBACK):
            yield mistake("local_port_open", one.where, port=one.value)
