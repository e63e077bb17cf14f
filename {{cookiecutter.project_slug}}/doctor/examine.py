"""`manage doctor`: settings, gunicorn.conf.py, files, database and kernel of a deployment."""

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from app.settings import READY_WITHIN_SECONDS
from doctor import database, gunicorn
from doctor.finding import Finding, Severity, mistake
from doctor.kernel import check_kernel
from doctor.settings import AllSettings, check_plan, check_settings
from doctor.timeouts import Value, Values, broken_orders, setting_values
from server.capacity import Plan, plan_capacity
from server.machine import read_machine


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
    """The only finding when the settings cannot be read."""
    where = "environment, .env, /run/secrets"
    return mistake("invalid_settings", where, reason=" ".join(reason.split()))


def examine_files(root: Path, settings: AllSettings) -> list[Finding]:
    """The settings and the files in `root`, and how they fit together."""
    root = root.resolve()
    config, findings = gunicorn.read_gunicorn(root)
    # gunicorn.conf.py wins over the settings that it usually reads.
    timeouts: list[Values] = [
        setting_values(settings) | gunicorn.gunicorn_timeouts(root, config),
        {"ready": [Value(READY_WITHIN_SECONDS, "app/health.py")]},
    ]
    # Held by systemd on a machine without the files of the deployment.
    has_unix_socket = Path("/run", f"{settings.service_name}.socket").is_socket()
    if config is not None:
        findings += gunicorn.check_gunicorn(root, config, settings)
        has_unix_socket |= all(str(one).startswith("unix:") for one in config.bind)
    if find_spec("doctor.files"):
        # Its parsers are slow to import, and not in the image.
        from doctor.files.lint import lint_files  # noqa: PLC0415

        lint = lint_files(root, settings)
        timeouts += lint.timeouts
        findings += lint.findings
        has_unix_socket |= lint.has_unix_socket
    else:
        findings.append(mistake("no_linters", "deploy/"))
    findings += check_settings(root, settings, has_unix_socket=has_unix_socket)
    return findings + broken_orders(_merge(timeouts))


async def _examine_database(root: Path, settings: AllSettings, plan: Plan) -> list[Finding]:
    server, findings = await database.read_server(settings)
    if server is None:
        return findings
    return [
        *database.check_server(server, settings, plan),
        *database.check_revision(root, server),
    ]


def _merge(sources: Sequence[Values]) -> Values:
    """All values of a timeout: each of them must keep the order."""
    merged: dict[str, Sequence[Value]] = {}
    for source in sources:
        for name, values in source.items():
            merged[name] = list(dict.fromkeys([*merged.get(name, ()), *values]))
    return merged


def _without_secrets(finding: Finding, settings: AllSettings) -> Finding:
    """No check writes one itself, but the text of an exception may have one."""
    secrets = [settings.secret_key.get_secret_value()]
    secrets += [host["password"] or "" for host in settings.database_url.hosts()]
    what = finding.what
    for secret in filter(None, secrets):
        what = what.replace(secret, "***")
    return Finding(**{**vars(finding), "what": what})
