"""The settings of this process: secrets, docs, trusted proxies, workers and connections."""

import os
import re
import stat
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path

from pydantic import Field

from app.keys import is_weak
from app.settings import Settings
from doctor.finding import Finding, mistake
from doctor.rules import misspelled
from server.capacity import Plan
from server.settings import ServerSettings
from server.uvicorn_options import UVICORN_OPTIONS

_DOT_ENV = Path(".env")
_PASSWORD_CHARACTERS_MIN = 12
_PGBOUNCER_PORT = 6432
# The default is 15 minutes: so long a token works that its owner has lost.
_ACCESS_TOKEN_SECONDS_MAX = 3600
# OWASP's least for argon2id. https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
_PASSWORD_MEMORY_KIB_MIN = 19_456
_LOGIN_ATTEMPTS_MAX = 1000
# RFC 8314: TLS from the first byte.
_TLS_PORT = 465
_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (to be found)
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
    findings = [*_check_values(root, settings)]
    findings += misspelled([(name, name) for name in os.environ], known_variables())
    if trusts_everybody(settings.forwarded_allow_ips) and not has_unix_socket:
        findings.append(mistake("everybody_is_trusted", "FORWARDED_ALLOW_IPS"))
    findings += check_metrics(settings, is_on_host=has_unix_socket)
    if has_unix_socket:
        findings += check_neighbours(settings)
    if settings.environment == "production":
        findings += check_production(settings)
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
        findings.append(
            mistake(
                "too_many_connections",
                "DATABASE_CONNECTION_BUDGET",
                connections=plan.connections,
                budget=plan.connection_budget,
            )
        )
    for resource in plan.shortages:
        name = "WORKER_MEMORY_MIB" if "memory" in resource else "DATABASE_CONNECTION_BUDGET"
        findings.append(mistake("no_room", name, resource=resource))
    if plan.workers > planned_workers:
        where, workers = "WEB_CONCURRENCY", plan.workers
        findings.append(mistake("too_many_workers", where, workers=workers, most=planned_workers))
    return findings


def _check_values(root: Path, settings: AllSettings) -> Iterator[Finding]:
    """What is wrong in any environment."""
    if is_weak(settings.secret_key.get_secret_value()):
        yield mistake("weak_secret_key", "SECRET_KEY")
    file = root / _DOT_ENV
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH:
        yield mistake("readable_dot_env", str(_DOT_ENV))
    ports = [host["port"] for host in settings.database_url.hosts()]
    if _PGBOUNCER_PORT in ports and not settings.database_pgbouncer:
        yield mistake("unknown_pooler", "DATABASE_URL", port=_PGBOUNCER_PORT)


def check_production(settings: AllSettings) -> Iterator[Finding]:
    """Each names the setting as its place."""
    if settings.docs_are_on:
        yield mistake("docs_on", "DOCS_ENABLED")
    if settings.log_level == "debug":
        yield mistake("debug_on", "LOG_LEVEL")
    if settings.log_format == "console":
        yield mistake("console_log", "LOG_FORMAT")
    if settings.access_token_seconds > _ACCESS_TOKEN_SECONDS_MAX:
        yield mistake("long_token", "ACCESS_TOKEN_SECONDS", seconds=settings.access_token_seconds)
    if settings.password_memory_cost_kib < _PASSWORD_MEMORY_KIB_MIN:
        least = _PASSWORD_MEMORY_KIB_MIN
        yield mistake("cheap_hash", "PASSWORD_MEMORY_COST_KIB", least=least)
    if settings.login_attempts_per_account > _LOGIN_ATTEMPTS_MAX:
        yield mistake("many_attempts", "LOGIN_ATTEMPTS_PER_ACCOUNT", most=_LOGIN_ATTEMPTS_MAX)
    yield from _check_database_url(settings)
    yield from check_public_url(str(settings.public_url), "PUBLIC_URL")
    yield from _check_mail(settings)


def _check_database_url(settings: AllSettings) -> Iterator[Finding]:
    for host in settings.database_url.hosts():
        password = host["password"]
        if password is not None and (len(password) < _PASSWORD_CHARACTERS_MIN or is_weak(password)):
            yield mistake("weak_password", "DATABASE_URL")
        if host["username"] == "postgres":
            yield mistake("superuser", "DATABASE_URL")
        if "sslmode=disable" in (settings.database_url.query or "") and (
            host["host"] not in _LOOPBACK_HOSTS
        ):
            yield mistake("database_in_clear", "DATABASE_URL")


def _check_mail(settings: AllSettings) -> Iterator[Finding]:
    if not settings.smtp_host:
        yield mistake("mail_is_dropped", "SMTP_HOST")
        return
    if settings.smtp_security == "none" and settings.smtp_host not in _LOOPBACK_HOSTS:
        yield mistake("mail_in_clear", "SMTP_SECURITY")
    if settings.smtp_port == _TLS_PORT and settings.smtp_security != "tls":
        yield mistake("mail_port", "SMTP_PORT")
    if settings.smtp_user and not settings.smtp_password:
        yield mistake("mail_password", "SMTP_USER")


def check_metrics(settings: AllSettings, *, is_on_host: bool) -> Iterator[Finding]:
    """`is_on_host`: gunicorn is on a unix socket of the machine, not in a network of its own."""
    if settings.metrics_port == settings.app_port and not is_on_host:
        yield mistake("metrics_port", "METRICS_PORT", port=settings.metrics_port)
    if is_on_host and settings.metrics_port and settings.metrics_host in _ALL_ADDRESSES:
        yield mistake("metrics_open", "METRICS_HOST", host=settings.metrics_host)


def check_neighbours(settings: AllSettings, root: Path = Path("/")) -> Iterator[Finding]:
    """Services like this one on the same machine: systemd gives each a socket in /run."""
    default = AllSettings.model_fields["metrics_port"].default
    for socket in sorted(root.glob("run/*.socket")):
        file = root / "etc" / socket.stem / "app.env"
        if socket.stem != settings.service_name and file.is_file():
            written = re.findall(r"^METRICS_PORT=(\d+)", file.read_text(encoding="utf-8"), re.M)
            port = int(written[-1] if written else default)
            if port and port == settings.metrics_port:
                yield mistake("metrics_twice", "METRICS_PORT", port=port, other=socket.stem)


def check_public_url(url: str, where: str) -> Iterator[Finding]:
    scheme, _, rest = url.partition("://")
    if scheme != "https" or rest.startswith(_LOOPBACK_HOSTS):
        yield mistake("public_url", where, url=url)


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
