"""Workers and connections: of this process, of each deployment, against the budget."""

from collections.abc import Iterator

from doctor.deployment import Deployment, interpolate
from doctor.finding import Finding, Severity
from doctor.settings import AllSettings
from server.capacity import GENERATIONS, Plan, plan_capacity, plan_pool_size
from server.machine import Machine

_NAMES = ("replicas", "web_concurrency", "database_pool_size", "database_connection_budget")


def check_plan(plan: Plan, planned_workers: int) -> list[Finding]:
    """Of this process."""
    findings = []
    if plan.connections > plan.connection_budget:
        where = "DATABASE_CONNECTION_BUDGET"
        findings.append(_too_many_connections(where, plan.connections, plan.connection_budget))
    if plan.workers > planned_workers:
        findings.append(
            Finding(
                Severity.WARNING,
                "capacity",
                f"{plan.workers} workers where {planned_workers} have room.",
                "WEB_CONCURRENCY",
                "They wait for each other's CPU, or are killed for their memory.",
                "Leave it out: see manage capacity.",
            )
        )
    return findings


def check_budget(deployment: Deployment, settings: AllSettings) -> list[Finding]:
    if deployment.is_nginx:
        return []
    own = _settings_of(deployment, settings)
    return [
        *_check_concurrency(deployment),
        *_check_replicas(deployment, own),
        *_check_room(deployment, own),
    ]


def _settings_of(deployment: Deployment, settings: AllSettings) -> AllSettings:
    """Those for capacity, as this deployment would read them; not those of this machine."""
    update: dict[str, int | None] = {
        name: AllSettings.model_fields[name].default for name in _NAMES
    }
    for name in _NAMES:
        entry = deployment.environment.get(name.upper())
        text = interpolate(entry.value) if entry else None
        if text and text.isdecimal() and int(text) > 0:
            update[name] = int(text)
    return settings.model_copy(update=update)


def _check_concurrency(deployment: Deployment) -> Iterator[Finding]:
    concurrency = deployment.environment.get("WEB_CONCURRENCY")
    if concurrency and interpolate(concurrency.value) == "":
        yield Finding(
            Severity.ERROR,
            "capacity",
            "WEB_CONCURRENCY is empty.",
            concurrency.where,
            "gunicorn itself reads it and refuses to start.",
            "Leave it out or write a number.",
        )


def _check_replicas(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    replicas = int(deployment.replicas.value) if deployment.replicas else settings.replicas
    if replicas > settings.replicas:
        yield Finding(
            Severity.WARNING,
            "connection budget",
            f"There can be {replicas} replicas, and REPLICAS says {settings.replicas}.",
            deployment.replicas.where if deployment.replicas else deployment.where,
            "Each of them plans as if the others had no connections.",
            f"Write REPLICAS={replicas} next to the other settings.",
        )
    workers = settings.web_concurrency
    if workers:
        connections = replicas * workers * plan_pool_size(settings, workers) * GENERATIONS
        budget = settings.database_connection_budget
        if connections > budget:
            yield _too_many_connections(deployment.where, connections, budget)


def _check_room(deployment: Deployment, settings: AllSettings) -> Iterator[Finding]:
    if not deployment.cores or not settings.web_concurrency:
        return
    cores = max(1, round(deployment.cores))
    plan = plan_capacity(settings, Machine(cores, deployment.cores, deployment.memory_bytes))
    if settings.web_concurrency > plan.workers:
        entry = deployment.environment.get("WEB_CONCURRENCY")
        yield Finding(
            Severity.WARNING,
            "capacity",
            f"{settings.web_concurrency} workers; {'; '.join(plan.reasons[:2])}.",
            entry.where if entry else deployment.where,
            "They wait for each other's CPU, or are killed for their memory.",
            f"Write WEB_CONCURRENCY={plan.workers}, or raise the limits.",
        )


def _too_many_connections(where: str, connections: int, budget: int) -> Finding:
    return Finding(
        Severity.ERROR,
        "connection budget",
        f"Up to {connections} connections at a reload, and the budget is {budget}.",
        where,
        "PostgreSQL refuses what is over its limit: too many clients.",
        "Lower DATABASE_POOL_SIZE or WEB_CONCURRENCY, or raise DATABASE_CONNECTION_BUDGET.",
    )
