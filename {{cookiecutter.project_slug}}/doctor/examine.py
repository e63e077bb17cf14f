"""`manage doctor`: reads the effective settings, the real files, the database and the kernel.

The rules stand in `checks/` and `order of timeouts.py`; here they are only brought together.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from gunicorn.config import Config

from app.settings import READY_WITHIN_SECONDS
from doctor import compose, database, kubernetes, nginx, pgbouncer, systemd
from doctor.budget import check_budget, check_plan
from doctor.deployment import Deployment, values_by_timeout
from doctor.exposure import check_exposure, check_settings
from doctor.finding import Finding, Severity
from doctor.gunicorn import FILE as GUNICORN_FILE
from doctor.gunicorn import check_gunicorn, gunicorn_timeouts, read_gunicorn
from doctor.kernel import check_kernel
from doctor.settings import AllSettings
from doctor.timeouts import Value, Values, broken_orders, setting_values
from server.capacity import Plan, plan_capacity
from server.machine import read_machine

_FILES = (GUNICORN_FILE, nginx.MAIN, compose.FILE, kubernetes.FOLDER, systemd.UNIT)


def examine(root: Path, settings: AllSettings) -> list[Finding]:
    """Everything; the worst first, no secret in it."""
    machine = read_machine()
    plan = plan_capacity(settings, machine, settings.web_concurrency)
    findings = [
        *check_plan(plan, plan_capacity(settings, machine).workers),
        *check_kernel(Path("/"), settings.server_backlog),
        *examine_files(root, settings),
        *asyncio.run(_examine_database(root, settings, plan)),
    ]
    order = list(Severity)
    findings.sort(key=lambda finding: order.index(finding.severity))
    return [_without_secrets(finding, settings) for finding in findings]


def invalid_settings(reason: str) -> Finding:
    """When there is nothing to go by."""
    return Finding(
        Severity.ERROR,
        "settings",
        " ".join(reason.split()),
        "environment, .env, /run/secrets",
        "The service does not start.",
        "See .env.example.",
    )


def examine_files(root: Path, settings: AllSettings) -> list[Finding]:
    """The settings and the files in `root`, and how they fit together."""
    root = root.resolve()
    directives, findings = nginx.read_nginx(root)
    deployments: list[Deployment] = []
    for read in (compose.read_compose, kubernetes.read_kubernetes, systemd.read_systemd):
        found, mistakes = read(root)
        deployments.extend(found)
        findings.extend(mistakes)
    pooler = pgbouncer.read_pgbouncer(root)
    config, values, gunicorn_findings = _examine_gunicorn(root, settings)
    has_unix_socket = _has_unix_socket(config, deployments, settings)
    return [
        *findings,
        *gunicorn_findings,
        *check_settings(root, settings, has_unix_socket=has_unix_socket),
        *broken_orders(
            _merge(
                # gunicorn.conf.py wins over the settings that it usually reads.
                {**setting_values(settings), **values},
                nginx.nginx_timeouts(directives),
                values_by_timeout(deployments),
                pgbouncer.pgbouncer_timeouts(pooler),
                {"ready": [Value(READY_WITHIN_SECONDS, "app/health.py")]},
            )
        ),
        *nginx.check_nginx(directives, settings.max_body_bytes),
        *pgbouncer.check_pgbouncer(pooler, settings.database_connection_budget),
        *chain.from_iterable(check_exposure(one) for one in deployments),
        *chain.from_iterable(check_budget(one, settings) for one in deployments),
        *_missing_files(root),
    ]


def _examine_gunicorn(
    root: Path, settings: AllSettings
) -> tuple[Config | None, Values, list[Finding]]:
    if not (root / GUNICORN_FILE).is_file():
        return None, {}, []
    config, findings = read_gunicorn(root)
    if config is None:
        return None, {}, findings
    in_production = settings.environment == "production"
    findings = check_gunicorn(root, config, in_production=in_production)
    return config, gunicorn_timeouts(root, config), findings


def _has_unix_socket(
    config: Config | None, deployments: Iterable[Deployment], settings: AllSettings
) -> bool:
    # The last one is held by systemd, on a machine without deployment files.
    return (
        (config is not None and all(str(one).startswith("unix:") for one in config.bind))
        or any(one.has_unix_socket for one in deployments)
        or Path("/run", f"{settings.service_name}.socket").is_socket()
    )


async def _examine_database(root: Path, settings: AllSettings, plan: Plan) -> list[Finding]:
    server, findings = await database.read_server(settings)
    if server is None:
        return findings
    return [
        *database.check_server(server, settings, plan),
        *database.check_revision(root, server),
    ]


def _merge(*sources: Values) -> dict[str, Sequence[Value]]:
    """All values of a timeout: each of them must keep the order."""
    merged: dict[str, Sequence[Value]] = {}
    for source in sources:
        for name, values in source.items():
            merged[name] = list(dict.fromkeys([*merged.get(name, ()), *values]))
    return merged


def _missing_files(root: Path) -> list[Finding]:
    return [
        Finding(
            Severity.NOTE,
            "files",
            "It is not here, so nothing in it was checked.",
            str(file),
            "The image has no deployment files, and a service has those of one deployment.",
            "",
        )
        for file in _FILES
        if not (root / file).exists()
    ]


def _without_secrets(finding: Finding, settings: AllSettings) -> Finding:
    """No check writes one on purpose; this is for what an exception may say."""
    secrets = [settings.secret_key.get_secret_value()]
    secrets += [host["password"] or "" for host in settings.database_url.hosts()]
    what = finding.what
    for secret in filter(None, secrets):
        what = what.replace(secret, "***")
    return Finding(**{**vars(finding), "what": what})
