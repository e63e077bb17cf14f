"""How many workers and connections: from CPU, memory and the budget of connections.

gunicorn.conf.py plans once, in the master, and hands the plan to the workers.
"""

from dataclasses import dataclass

from server.machine import Machine
from server.metrics import Gauge
from server.settings import ServerSettings

_WORKERS = Gauge("server_planned_workers", "Workers of this replica")
_POOL_SIZE = Gauge("server_planned_pool_size", "Connections of each worker")
_CONNECTIONS = Gauge("server_planned_connections", "Most of all replicas while they reload")
_BUDGET = Gauge("server_connection_budget", "What they may open together")

# One worker per core: on two cores two workers reached 0.148 of the throughput of a reference
# server, three 0.130 and four 0.124. A part of a core is left to password hashes in threads.
# At least two, even on one core, where the second costs up to 15 % of the throughput: without it
# a crash or a stalled event loop is an outage.
WORKERS_MIN = 2
# A local database was slower with more connections per worker; p99 at 64 clients: 192 ms with 1,
# 240 with 2, 822 with 5, 1.9 s with 20. A database across a network needs more than 2.
# Default of SQLAlchemy: 5, and 10 of overflow.
POOL_SIZE_MAX = 5
# While gunicorn reloads or replicas are replaced, the old workers are still there.
GENERATIONS = 2
# Outside of its pool each worker keeps one open, on which it hears of new events (LISTEN).
LISTENING = 1
# Of the process of the jobs, beside one for each job: the statements of the queue itself.
QUEUE = 1
# gunicorn's master and the process of the metrics: 24 and 17 MiB were measured (PSS).
MASTER_MEMORY_MIB = 50


@dataclass(frozen=True)
class Plan:
    """`connections` is the most that this service ever opens, reload included."""

    workers: int
    pool_size: int
    connections: int
    connection_budget: int
    reasons: tuple[str, ...]
    # Resources that have no room for a single worker; one is planned all the same.
    shortages: tuple[str, ...] = ()

    def record(self) -> None:
        """For the metrics, in the master."""
        _WORKERS.set(self.workers)
        _POOL_SIZE.set(self.pool_size)
        _CONNECTIONS.set(self.connections)
        _BUDGET.set(self.connection_budget)

    def __str__(self) -> str:
        return f"{self.workers} workers with {self.pool_size} connections each: " + "; ".join(
            self.reasons
        )


def plan_capacity(
    settings: ServerSettings, machine: Machine, web_concurrency: int | None = None
) -> Plan:
    """The reasons say so when the operator sets more workers than there is room for."""
    by_resource = _workers_by_resource(settings, machine)
    planned = max(1, min(allowed for allowed, _ in by_resource))
    reasons = [f"{resource} have room for {allowed}" for allowed, resource in by_resource]
    workers = web_concurrency or planned
    if workers != planned:
        reasons.append(f"WEB_CONCURRENCY sets {workers} instead of {planned}")
    pool_size = plan_pool_size(settings, workers)
    connections = count_connections(settings.replicas, workers, pool_size)
    reasons.append(
        f"replicas {settings.replicas} x workers {workers} x (pool {pool_size} + {LISTENING} to"
        f" listen) x {GENERATIONS} while reloading = {connections} connections"
    )
    budget = settings.database_connection_budget
    shortages = tuple(resource for allowed, resource in by_resource if allowed < 1)
    return Plan(workers, pool_size, connections, budget, tuple(reasons), shortages)


def count_connections(replicas: int, workers: int, pool_size: int) -> int:
    """The most that are open at once, while all workers are replaced."""
    return replicas * workers * (pool_size + LISTENING) * GENERATIONS


def jobs_pool_size(settings: ServerSettings) -> int:
    return settings.jobs_concurrency + QUEUE


def count_jobs_connections(settings: ServerSettings) -> int:
    """Outside of the budget, which is that of the workers: while one process replaces another."""
    return jobs_pool_size(settings) * GENERATIONS


def plan_pool_size(settings: ServerSettings, workers: int) -> int:
    if settings.database_pool_size:
        return settings.database_pool_size
    room = settings.database_connection_budget // (settings.replicas * workers * GENERATIONS)
    return max(1, min(room - LISTENING, POOL_SIZE_MAX))


def _workers_by_resource(settings: ServerSettings, machine: Machine) -> list[tuple[int, str]]:
    """How many workers each resource has room for, and its name."""
    limits = [_workers_by_cpu(machine)]
    if machine.memory_bytes is not None:
        mib = machine.memory_bytes // 2**20
        # Two generations of a warm worker, and what one of them takes at its peak.
        needed = GENERATIONS * settings.worker_memory_mib + settings.worker_peak_memory_mib
        room = max(0, mib - MASTER_MEMORY_MIB) // needed
        limits.append((room, f"{mib} MiB of memory"))
    room = settings.database_connection_budget // count_connections(settings.replicas, 1, 1)
    limits.append((room, f"{settings.database_connection_budget} connections"))
    return limits


def _workers_by_cpu(machine: Machine) -> tuple[int, str]:
    if machine.cpu_quota is not None and machine.cpu_quota < machine.cores:
        cores, reason = machine.cpu_quota, f"a quota of {machine.cpu_quota:g} cores"
    else:
        cores, reason = float(machine.cores), f"{machine.cores} cores"
    return (1 if cores < 1 else max(WORKERS_MIN, int(cores))), reason
