"""All files of a deployment: what is wrong in them, and the timeouts that they set.

A kind of file is a module here: `read_…` finds its values with file and line, `check_…` its
mistakes, `…_timeouts` what takes part in the order of timeouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor.files import compose, kubernetes, nginx, pgbouncer, systemd
from doctor.files.deployment import Deployment, check_deployment, values_by_timeout
from doctor.finding import Finding, Severity
from doctor.settings import AllSettings
from doctor.timeouts import Values

_FILES = (nginx.MAIN, compose.FILE, kubernetes.FOLDER, systemd.UNIT)


@dataclass(frozen=True)
class Lint:
    findings: Sequence[Finding]
    timeouts: Sequence[Values]
    has_unix_socket: bool


def lint_files(root: Path, settings: AllSettings) -> Lint:
    directives, findings = nginx.read_nginx(root)
    deployments: list[Deployment] = []
    for read in (compose.read_compose, kubernetes.read_kubernetes, systemd.read_systemd):
        found, mistakes = read(root)
        deployments.extend(found)
        findings.extend(mistakes)
    pooler = pgbouncer.read_pgbouncer(root)
    findings.extend(nginx.check_nginx(directives, settings.max_body_bytes))
    findings.extend(pgbouncer.check_pgbouncer(pooler, settings.database_connection_budget))
    for deployment in deployments:
        findings.extend(check_deployment(deployment, settings))
    findings.extend(_missing(file) for file in _FILES if not (root / file).exists())
    return Lint(
        findings,
        timeouts=(
            nginx.nginx_timeouts(directives),
            values_by_timeout(deployments),
            pgbouncer.pgbouncer_timeouts(pooler),
        ),
        has_unix_socket=any(one.has_unix_socket for one in deployments),
    )


def _missing(file: Path) -> Finding:
    what, why = "It is not here, so it was not checked.", "A service has files of one deployment."
    return Finding(Severity.NOTE, "files", what, str(file), why, "")
