"""All files of a deployment: what is wrong in them, and the timeouts that they set.

A kind of file is a module here: `read_…` finds its values with file and line and breaks of its
rules, `…_timeouts` what takes part in the order of timeouts.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor.files import compose, kubernetes, nginx, nginx_checks, pgbouncer, systemd
from doctor.files.deployment import Deployment, check_deployment, values_by_timeout
from doctor.finding import Finding, mistake
from doctor.settings import AllSettings
from doctor.timeouts import Values

# What a deployment lays over deploy/nginx/site.
_OVERLAYS = {
    "compose": compose.NGINX_SITE,
    "kubernetes": kubernetes.NGINX_SITE,
    "systemd": systemd.NGINX_SITE,
}
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
    for tree in trees.values():
        findings.extend(nginx_checks.check_nginx(tree, settings.max_body_bytes))
    findings.extend(pgbouncer.check_pgbouncer(pooler, settings.database_connection_budget))
    for deployment in deployments:
        findings.extend(check_deployment(deployment, settings))
        if deployment.kind in trees:
            findings.extend(_check_ports(deployment, trees[deployment.kind]))
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


def _check_ports(deployment: Deployment, tree: nginx.Block) -> Iterator[Finding]:
    """Between nginx and gunicorn, and between nginx and its container."""
    expected = _SERVICE_NAME.sub("*", deployment.listens)
    for server in nginx_checks.upstream_servers(tree):
        if expected and _SERVICE_NAME.sub("*", server.value) != expected:
            yield mistake(
                "upstream_port", server.where, address=server.value, listens=deployment.listens
            )
    listening = nginx_checks.listening_ports(tree)
    for port in deployment.ports if deployment.is_nginx else ():
        if port.value not in listening:
            yield mistake("published_port", port.where, port=port.value)
