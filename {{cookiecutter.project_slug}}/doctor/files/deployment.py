"""What compose, Kubernetes and systemd say about the service, in one form, and its checks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from doctor.finding import Entry, Finding, mistake
from doctor.rules import misspelled
from doctor.settings import (
    AllSettings,
    check_metrics,
    check_production,
    known_variables,
    networks_of,
    trusts_everybody,
)
from doctor.timeouts import Value, read_table
from server.capacity import (
    GENERATIONS,
    MASTER_MEMORY_MIB,
    count_connections,
    count_jobs_connections,
    plan_capacity,
    plan_pool_size,
)
from server.machine import Machine

_INTERPOLATION = re.compile(r"\$\{\w+(?::?-([^}]*)|[^}]*)\}|\$\w+")
_SECRETS = re.compile(r"^(SECRET_KEY|JWT_KEYS)$|PASSWORD$")
_URL_PASSWORD = re.compile(r"://[^/@:]*:[^/@]+@")
# Of PostgreSQL's: kept for superusers, and for migrations, `manage`, backups and monitoring.
SPARE_CONNECTIONS = 10


@dataclass(frozen=True)
class Deployment:
    """Everything may be missing; `where` is the container or unit."""

    where: str
    # Of the deployment: compose, kubernetes or systemd.
    kind: str = ""
    is_nginx: bool = False
    # The process of the jobs: nobody calls it, and it is not gunicorn.
    is_jobs: bool = False
    environment: Mapping[str, Entry] = field(default_factory=dict)
    # Those of doctor/timeouts.py that this file sets.
    timeouts: Mapping[str, Value] = field(default_factory=dict)
    replicas: Entry | None = None
    cores: float | None = None
    memory_bytes: int | None = None
    has_read_only_root: bool = False
    writable: tuple[str, ...] = ()
    has_unix_socket: bool = False
    # What ENVIRONMENT is without a line: the image sets it.
    environment_default: str = "production"
    # What the upstream of nginx has to name.
    listens: str = ""
    # Where nginx calls from: an address or a network; "*" is a unix socket.
    nginx_address: Entry | None = None
    # Of PostgreSQL, where it is deployed too.
    max_connections: Entry | None = None
    # Of nginx's container.
    ports: tuple[Entry, ...] = ()


def interpolate(text: str) -> str | None:
    """With the defaults of `${NAME:-default}`; None when the environment must tell."""
    unknown = [match for match in _INTERPOLATION.finditer(text) if match[1] is None]
    return None if unknown else _INTERPOLATION.sub(lambda match: match[1], text)


def read_environment_file(root: Path, file: Path) -> dict[str, Entry]:
    """NAME=value lines, as Kustomize and systemd read them."""
    if not file.is_file():
        return {}
    entries: dict[str, Entry] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            entries[name.strip()] = Entry(value.strip(), f"{file.relative_to(root)}:{number}")
    return entries


def _timeouts(deployment: Deployment) -> Iterator[tuple[str, Value]]:
    """What the file sets itself, and the settings in its environment."""
    yield from deployment.timeouts.items()
    by_setting = {timeout.name: name for name, timeout in read_table().timeouts.items()}
    for setting, entry in deployment.environment.items():
        text = interpolate(entry.value)
        if setting in by_setting and text and re.fullmatch(r"\d+(\.\d+)?", text):
            yield by_setting[setting], Value(float(text), entry.where)


def values_by_timeout(deployments: Sequence[Deployment]) -> dict[str, list[Value]]:
    values: dict[str, list[Value]] = {}
    for deployment in deployments:
        for name, value in _timeouts(deployment):
            values.setdefault(name, []).append(value)
    return values


def check_deployment(deployment: Deployment, settings: AllSettings) -> list[Finding]:
    findings = [*_check_root(deployment)]
    if not deployment.is_nginx:
        own = settings_of(deployment, settings)
        findings += [
            *_check_secrets(deployment),
            *_check_environment(deployment, settings),
            *_check_production(deployment, own),
            *_check_spelling(deployment),
        ]
    if not deployment.is_nginx and not deployment.is_jobs:
        own = settings_of(deployment, settings)
        findings += [
            *_check_trust(deployment),
            *_check_metrics(deployment, own),
            *_check_concurrency(deployment),
            *_check_replicas(deployment, own),
            *_check_room(deployment, own),
            *_check_memory(deployment, own),
        ]
    return findings


def _check_root(deployment: Deployment) -> Iterator[Finding]:
    needs = deployment.has_read_only_root and not any(
        path == "/tmp" or (deployment.is_nginx and path.startswith("/var/cache"))  # noqa: S108
        for path in deployment.writable
    )
    if needs:
        yield mistake("read_only_root", deployment.where)


def _check_secrets(deployment: Deployment) -> Iterator[Finding]:
    for name, entry in deployment.environment.items():
        is_secret = _SECRETS.search(name) or _URL_PASSWORD.search(entry.value)
        is_shared = "/.env:" not in entry.where  # git ignores that one
        if is_secret and is_shared and entry.value and "$" not in entry.value:
            yield mistake("secret_written_out", entry.where, name=name, file=name.lower())


def _written(deployment: Deployment) -> dict[str, str]:
    """The settings that this deployment writes out, as the service would read them."""
    texts = {name: interpolate(one.value) for name, one in deployment.environment.items()}
    known = AllSettings.model_fields
    return {name.lower(): text for name, text in texts.items() if text and name.lower() in known}


def _check_environment(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    """What the service would refuse at its start."""
    for name, entry in deployment.environment.items():
        if not name.isidentifier():
            yield mistake("no_variable", entry.where, name=name)
    try:
        AllSettings.model_validate(_required(settings) | _written(deployment))
    except ValidationError as raised:
        # Defaults that are made of another setting fail with it.
        own = (one for one in raised.errors() if not one["type"].startswith("default_factory"))
        for one in own:
            name = str(one["loc"][0] if one["loc"] else one["msg"].split()[2].strip(":")).upper()
            written = deployment.environment.get(name)
            where = written.where if written else deployment.where
            yield mistake("refused_setting", where, name=name, reason=one["msg"])


def _required(settings: AllSettings) -> dict[str, object]:
    """Secrets that no file of a deployment has."""
    return {"secret_key": settings.secret_key, "database_url": settings.database_url}


def _check_production(deployment: Deployment, own: AllSettings) -> Iterator[Finding]:
    missing = Entry(deployment.environment_default, deployment.where)
    environment = deployment.environment.get("ENVIRONMENT", missing)
    value = interpolate(environment.value)
    if value not in (None, "production"):
        yield mistake("not_for_production", environment.where, value=value)
    for finding in check_production(own):
        entry = deployment.environment.get(finding.where)
        # A staging overlay may write more into its log.
        may_differ = finding.where == "LOG_LEVEL" and entry and "/staging/" in entry.where
        # What is written; what is not is a matter of the live settings.
        if entry and interpolate(entry.value) and not may_differ:
            yield replace(finding, where=entry.where)


def _check_trust(deployment: Deployment) -> Iterator[Finding]:
    entry = deployment.environment.get("FORWARDED_ALLOW_IPS") or Entry(
        str(AllSettings.model_fields["forwarded_allow_ips"].default), deployment.where
    )
    trusted, nginx = interpolate(entry.value), deployment.nginx_address
    if trusted is None:
        return
    if trusts_everybody(trusted) and not deployment.has_unix_socket:
        yield mistake("everybody_is_trusted", entry.where)
    elif nginx and not includes(trusted, nginx.value):
        yield mistake("nginx_not_trusted", entry.where, trusted=trusted, nginx=nginx.value)


def _check_metrics(deployment: Deployment, own: AllSettings) -> Iterator[Finding]:
    for finding in check_metrics(own, is_on_host=deployment.has_unix_socket):
        entry = deployment.environment.get(finding.where)
        yield replace(finding, where=entry.where if entry else deployment.where)


def includes(trusted: str, address: str) -> bool:
    allowed, called_from = list(networks_of(trusted)), list(networks_of(address))
    return trusted.strip() == address or any(
        one.version == other.version
        and int(one.network_address) <= int(other.network_address)
        and int(other.broadcast_address) <= int(one.broadcast_address)
        for one in allowed
        for other in called_from
    )


def _check_spelling(deployment: Deployment) -> Iterator[Finding]:
    names = [(name, entry.where) for name, entry in deployment.environment.items()]
    yield from misspelled(names, known_variables())
    arguments = deployment.environment.get("GUNICORN_CMD_ARGS")
    if arguments:
        yield mistake("gunicorn_arguments", arguments.where)


def settings_of(deployment: Deployment, settings: AllSettings) -> AllSettings:
    """As this deployment would read them: what it writes, else the defaults of the service."""
    try:
        return AllSettings.model_validate(_required(settings) | _written(deployment))
    except ValidationError:
        return AllSettings.model_validate(_required(settings))


def _check_concurrency(deployment: Deployment) -> Iterator[Finding]:
    concurrency = deployment.environment.get("WEB_CONCURRENCY")
    if concurrency and interpolate(concurrency.value) == "":
        yield mistake("concurrency_empty", concurrency.where)


def _check_replicas(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    replicas = int(deployment.replicas.value) if deployment.replicas else settings.replicas
    if replicas > settings.replicas:
        yield mistake(
            "replicas",
            deployment.replicas.where if deployment.replicas else deployment.where,
            replicas=replicas,
            planned=settings.replicas,
        )
    workers = settings.web_concurrency
    if workers:
        pool_size = plan_pool_size(settings, workers)
        connections = count_connections(replicas, workers, pool_size)
        budget = settings.database_connection_budget
        if connections > budget:
            yield mistake(
                "too_many_connections", deployment.where, connections=connections, budget=budget
            )
        others = SPARE_CONNECTIONS + count_jobs_connections(settings)
        yield from _check_max_connections(deployment, connections + others)


def _check_max_connections(deployment: Deployment, needed: int) -> Iterator[Finding]:
    most = deployment.max_connections
    if most and needed > int(most.value):
        yield mistake("max_connections", most.where, most=most.value, needed=needed)


def _check_memory(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    workers = settings.web_concurrency or 1
    each = GENERATIONS * settings.worker_memory_mib + settings.worker_peak_memory_mib
    needed = MASTER_MEMORY_MIB + workers * each
    limit = deployment.memory_bytes
    if limit is not None and limit < needed * 2**20:
        yield mistake(
            "memory_below_plan",
            deployment.where,
            mebibytes=limit // 2**20,
            workers=workers,
            needed=needed,
        )


def _check_room(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    if not deployment.cores or not settings.web_concurrency:
        return
    cores = max(1, round(deployment.cores))
    plan = plan_capacity(settings, Machine(cores, deployment.cores, deployment.memory_bytes))
    if settings.web_concurrency > plan.workers:
        entry = deployment.environment.get("WEB_CONCURRENCY")
        yield mistake(
            "workers_over_limits",
            entry.where if entry else deployment.where,
            web_concurrency=settings.web_concurrency,
            reasons="; ".join(plan.reasons[:2]),
            workers=plan.workers,
        )
