"""What would be open to others, in settings and deployments: secrets, docs, lying proxies."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from app.keys import is_weak
from doctor.deployment import Deployment, interpolate
from doctor.finding import Finding, Severity
from doctor.settings import AllSettings

_SECRETS = re.compile(r"^(SECRET_KEY|JWT_KEYS)$|PASSWORD$")
_URL_PASSWORD = re.compile(r"://[^/@:]*:[^/@]+@")
_DOT_ENV = Path(".env")


def check_settings(root: Path, settings: AllSettings, *, has_unix_socket: bool) -> list[Finding]:
    """Those of this process, and the file that they may come from."""
    findings = [*_check_secret_key(settings), *_check_dot_env(root)]
    if trusts_everybody(settings.forwarded_allow_ips) and not has_unix_socket:
        findings.append(everybody_is_trusted("FORWARDED_ALLOW_IPS"))
    if settings.environment == "production":
        findings += [*_check_docs(settings), *_check_debug(settings), *_check_password(settings)]
    return findings


def check_exposure(deployment: Deployment) -> list[Finding]:
    findings = [*_check_root(deployment)]
    if not deployment.is_nginx:
        findings += [
            *_check_secrets(deployment),
            *_check_production(deployment),
            *_check_trust(deployment),
        ]
    return findings


def _check_secret_key(settings: AllSettings) -> Iterator[Finding]:
    if is_weak(settings.secret_key.get_secret_value()):
        yield Finding(
            Severity.WARNING,
            "secrets",
            "SECRET_KEY is a placeholder.",
            "SECRET_KEY",
            "Who guesses it signs tokens for everybody; production refuses it.",
            "Write 48 random bytes.",
        )


def _check_password(settings: AllSettings) -> Iterator[Finding]:
    for host in settings.database_url.hosts():
        password = host["password"]
        if password is not None and (len(password) < 12 or is_weak(password)):  # noqa: PLR2004
            yield Finding(
                Severity.WARNING,
                "secrets",
                "The password in DATABASE_URL is short or a placeholder.",
                "DATABASE_URL",
                "Who reaches the database guesses it.",
                "Give the role a random password.",
            )


def _check_dot_env(root: Path) -> Iterator[Finding]:
    file = root / _DOT_ENV
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH:
        yield Finding(
            Severity.WARNING,
            "secrets",
            "Everybody on this machine can read it.",
            str(_DOT_ENV),
            "It holds SECRET_KEY and DATABASE_URL.",
            "Run chmod 600 .env.",
        )


def _check_docs(settings: AllSettings) -> Iterator[Finding]:
    if settings.docs_are_on:
        yield Finding(
            Severity.ERROR,
            "production",
            "The docs are on in production.",
            "DOCS_ENABLED",
            "They show every route to everybody.",
            "Write DOCS_ENABLED=false.",
        )


def _check_debug(settings: AllSettings) -> Iterator[Finding]:
    if settings.log_level == "debug":
        yield Finding(
            Severity.WARNING,
            "production",
            "LOG_LEVEL is debug in production.",
            "LOG_LEVEL",
            "Libraries write what they send and receive.",
            "Write LOG_LEVEL=info.",
        )


def _check_root(deployment: Deployment) -> Iterator[Finding]:
    needs = deployment.has_read_only_root and not any(
        path == "/tmp" or (deployment.is_nginx and path.startswith("/var/cache"))  # noqa: S108
        for path in deployment.writable
    )
    if needs:
        yield Finding(
            Severity.ERROR,
            "writable paths",
            "The root file system is read-only and /tmp is not writable.",
            deployment.where,
            "Bodies that do not fit in memory and temporary files have no place.",
            "Mount a tmpfs at /tmp.",
        )


def _check_secrets(deployment: Deployment) -> Iterator[Finding]:
    for name, entry in deployment.environment.items():
        is_secret = _SECRETS.search(name) or _URL_PASSWORD.search(entry.value)
        if is_secret and entry.value and "$" not in entry.value:
            yield Finding(
                Severity.ERROR,
                "secrets",
                f"{name} is written out.",
                entry.where,
                "Everybody who reads the repository has it.",
                f"Leave it out and mount a file /run/secrets/{name.lower()}.",
            )


def _check_production(deployment: Deployment) -> Iterator[Finding]:
    for name, allowed, default in (
        ("ENVIRONMENT", ("production",), "production"),
        ("DOCS_ENABLED", ("", "false", "0"), "false"),
    ):
        entry = deployment.environment.get(name)
        value = interpolate(entry.value) if entry else None
        if entry and value is not None and value.lower() not in allowed:
            yield Finding(
                Severity.ERROR,
                "production",
                f"{name} is {value}.",
                entry.where,
                "Docs are public and weak secrets are accepted outside of production.",
                f"Write {name}={default}.",
            )


def _check_trust(deployment: Deployment) -> Iterator[Finding]:
    entry = deployment.environment.get("FORWARDED_ALLOW_IPS")
    if entry and trusts_everybody(entry.value) and not deployment.has_unix_socket:
        yield everybody_is_trusted(entry.where)


def trusts_everybody(addresses: str) -> bool:
    return any(part.strip() in ("*", "0.0.0.0/0", "::/0") for part in addresses.split(","))


def everybody_is_trusted(where: str) -> Finding:
    return Finding(
        Severity.ERROR,
        "trusted proxies",
        "FORWARDED_ALLOW_IPS believes everybody.",
        where,
        "Every client that reaches the port chooses its own address in logs and limits.",
        'Write the addresses of nginx; "*" only with a unix socket.',
    )
