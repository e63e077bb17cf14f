"""The settings of this process: secrets, docs, trusted proxies, workers and connections."""

import os
import stat
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path

from pydantic import Field

from app.keys import is_weak
from app.settings import Settings
from doctor.finding import Finding, error, warning
from doctor.rules import misspelled
from server.capacity import Plan
from server.settings import ServerSettings
from server.uvicorn_options import UVICORN_OPTIONS

_DOT_ENV = Path(".env")
_PASSWORD_CHARACTERS_MIN = 12
_PGBOUNCER_PORT = 6432
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")
# No organisation has larger networks: 10.0.0.0/8, fc00::/7.
_PREFIX_BITS_MIN = {4: 8, 6: 7}


class AllSettings(ServerSettings, Settings):
    """Of the application and of the server, as the environment of this machine sets them."""

    # How long a load balancer in front of nginx waits, and keeps idle connections. 60 is what most
    # have, AWS and nginx among them.
    load_balancer_timeout_seconds: float = Field(default=60, gt=0)


def check_settings(root: Path, settings: AllSettings, *, has_unix_socket: bool) -> list[Finding]:
    """Those of this process, and the file that they may come from."""
    findings = [*_check_secret_key(settings), *_check_dot_env(root), *_check_pooler(settings)]
    findings += misspelled([(name, name) for name in os.environ], known_variables())
    if trusts_everybody(settings.forwarded_allow_ips) and not has_unix_socket:
        findings.append(everybody_is_trusted("FORWARDED_ALLOW_IPS"))
    if settings.environment == "production":
        findings += [*_check_docs(settings), *_check_debug(settings), *_check_password(settings)]
        findings += check_public_url(str(settings.public_url), "PUBLIC_URL")
        host = settings.smtp_host
        findings += check_mail_security(
            settings.smtp_security, host or "localhost", "SMTP_SECURITY"
        )
        findings += [] if host else [_mail_is_dropped()]
    return findings


def known_variables() -> list[str]:
    return [
        *(name.upper() for name in AllSettings.model_fields),
        *(f"UVICORN_{name.upper()}" for name in UVICORN_OPTIONS),
        "GUNICORN_CMD_ARGS",
    ]


def check_plan(plan: Plan, planned_workers: int) -> list[Finding]:
    findings = []
    if plan.connections > plan.connection_budget:
        where = "DATABASE_CONNECTION_BUDGET"
        findings.append(too_many_connections(where, plan.connections, plan.connection_budget))
    findings += [
        error(
            "capacity",
            f"{resource} have no room for a worker.",
            "WORKER_MEMORY_MIB" if "memory" in resource else "DATABASE_CONNECTION_BUDGET",
            "The one that runs is killed for its memory, or refused by PostgreSQL.",
            "Give it more: see manage capacity.",
        )
        for resource in plan.shortages
    ]
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


def _check_pooler(settings: AllSettings) -> Iterator[Finding]:
    ports = [host["port"] for host in settings.database_url.hosts()]
    if _PGBOUNCER_PORT in ports and not settings.database_pgbouncer:
        yield error(
            "database",
            f"Port {_PGBOUNCER_PORT} is PgBouncer's, and DATABASE_PGBOUNCER is false.",
            "DATABASE_URL",
            "Prepared statements of one client fail on another's connection.",
            "Write DATABASE_PGBOUNCER=true.",
        )


def check_public_url(url: str, where: str) -> Iterator[Finding]:
    scheme, _, rest = url.partition("://")
    if scheme != "https" or rest.startswith(_LOOPBACK_HOSTS):
        yield warning(
            "production",
            f"PUBLIC_URL is {url}.",
            where,
            "Links in emails lead there: nowhere, or without encryption.",
            "Write the https address of your own pages.",
        )


def check_mail_security(security: str, host: str, where: str) -> Iterator[Finding]:
    if security == "none" and host not in _LOOPBACK_HOSTS:
        yield error(
            "production",
            "Mail leaves without TLS.",
            where,
            "Who listens on the way takes the links that set passwords.",
            "Write SMTP_SECURITY=starttls or tls.",
        )


def _mail_is_dropped() -> Finding:
    what, why = "There is no mail server.", "Mail is dropped: nobody can reset a password."
    return warning("production", what, "SMTP_HOST", why, "Write SMTP_HOST.")


def trusts_everybody(addresses: str) -> bool:
    """Also when several networks add up to it."""
    if {"*", "all"} & {part.strip() for part in addresses.split(",")}:
        return True
    networks = list(networks_of(addresses))
    collapsed: list[IPv4Network | IPv6Network] = [
        *collapse_addresses(one for one in networks if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in networks if isinstance(one, IPv6Network)),
    ]
    return any(one.prefixlen < _PREFIX_BITS_MIN[one.version] for one in collapsed)


def networks_of(addresses: str) -> Iterator[IPv4Network | IPv6Network]:
    """What is no address, a unix socket for example, is left out."""
    for part in addresses.split(","):
        try:
            yield ip_network(part.strip(), strict=False)
        except ValueError:
            continue


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
