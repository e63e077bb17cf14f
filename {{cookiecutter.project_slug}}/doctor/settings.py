"""The settings of this process: secrets, docs, trusted proxies, workers and connections."""

import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from app.keys import is_weak
from app.settings import Settings
from doctor.finding import Finding, error, warning
from server.capacity import Plan
from server.settings import ServerSettings

_DOT_ENV = Path(".env")
_PASSWORD_CHARACTERS_MIN = 12


class AllSettings(ServerSettings, Settings):
    """Of the application and of the server, as the environment of this machine sets them."""

    # How long a load balancer in front of nginx waits, and keeps idle connections. 60 is what most
    # have, AWS and nginx among them.
    load_balancer_timeout_seconds: float = Field(default=60, gt=0)


def check_settings(root: Path, settings: AllSettings, *, has_unix_socket: bool) -> list[Finding]:
    """Those of this process, and the file that they may come from."""
    findings = [*_check_secret_key(settings), *_check_dot_env(root)]
    if trusts_everybody(settings.forwarded_allow_ips) and not has_unix_socket:
        findings.append(everybody_is_trusted("FORWARDED_ALLOW_IPS"))
    if settings.environment == "production":
        findings += [*_check_docs(settings), *_check_debug(settings), *_check_password(settings)]
    return findings


def check_plan(plan: Plan, planned_workers: int) -> list[Finding]:
    findings = []
    if plan.connections > plan.connection_budget:
        where = "DATABASE_CONNECTION_BUDGET"
        findings.append(too_many_connections(where, plan.connections, plan.connection_budget))
    if plan.workers > planned_workers:
        findings.append(
            warning(
                "capacity",
                f"{plan.workers} workers where {planned_workers} have room.",
                "WEB_CONCURRENCY",
                "They wait for each other's CPU, or are killed for their memory.",
                "Leave it out: see manage capacity.",
            )
        )
    return findings


def _check_secret_key(settings: AllSettings) -> Iterator[Finding]:
    if is_weak(settings.secret_key.get_secret_value()):
        yield warning(
            "secrets",
            "SECRET_KEY is a placeholder.",
            "SECRET_KEY",
            "Who guesses it signs tokens for everybody; production refuses it.",
            "Write 48 random bytes.",
        )


def _check_password(settings: AllSettings) -> Iterator[Finding]:
    for host in settings.database_url.hosts():
        password = host["password"]
        if password is not None and (len(password) < _PASSWORD_CHARACTERS_MIN or is_weak(password)):
            yield warning(
                "secrets",
                "The password in DATABASE_URL is short or a placeholder.",
                "DATABASE_URL",
                "Who reaches the database guesses it.",
                "Give the role a random password.",
            )


def _check_dot_env(root: Path) -> Iterator[Finding]:
    file = root / _DOT_ENV
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH:
        yield warning(
            "secrets",
            "Everybody on this machine can read it.",
            str(_DOT_ENV),
            "It holds SECRET_KEY and DATABASE_URL.",
            "Run chmod 600 .env.",
        )


def _check_docs(settings: AllSettings) -> Iterator[Finding]:
    if settings.docs_are_on:
        yield error(
            "production",
            "The docs are on in production.",
            "DOCS_ENABLED",
            "They show every route to everybody.",
            "Write DOCS_ENABLED=false.",
        )


def _check_debug(settings: AllSettings) -> Iterator[Finding]:
    if settings.log_level == "debug":
        yield warning(
            "production",
            "LOG_LEVEL is debug in production.",
            "LOG_LEVEL",
            "Libraries write what they send and receive.",
            "Write LOG_LEVEL=info.",
        )


def trusts_everybody(addresses: str) -> bool:
    return any(part.strip() in ("*", "0.0.0.0/0", "::/0") for part in addresses.split(","))


def everybody_is_trusted(where: str) -> Finding:
    return error(
        "trusted proxies",
        "FORWARDED_ALLOW_IPS believes everybody.",
        where,
        "Every client that reaches the port chooses its own address in logs and limits.",
        'Write the addresses of nginx; "*" only with a unix socket.',
    )


def too_many_connections(where: str, connections: int, budget: int) -> Finding:
    return error(
        "connection budget",
        f"Up to {connections} connections at a reload, and the budget is {budget}.",
        where,
        "PostgreSQL refuses what is over its limit: too many clients.",
        "Lower DATABASE_POOL_SIZE or WEB_CONCURRENCY, or raise DATABASE_CONNECTION_BUDGET.",
    )
