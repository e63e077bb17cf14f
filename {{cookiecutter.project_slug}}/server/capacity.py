"""How many workers and connections: from CPU, memory and the budget of connections.

gunicorn.conf.py plans once, in the master, and hands the plan to the workers.
"""

from dataclasses import dataclass

from server.machine import Machine
from server.settings import ServerSettings

# On two cores two workers answered 0.148, three 0.130 and four 0.124 of the reference: one per
# core. A part of a core is left to password hashes, which have threads of their own.
# But two from one core on: the second costs up to 15 % throughput there, and without it a crash
# or a stalled loop is an outage.
WORKERS_MIN = 2
# p99 at 64 connections: 192 ms with 1, 240 with 2, 822 with 5, 1.9 s with 20 (local database);
# one across a network wants more than 2. Default of SQLAlchemy: 5, and 10 of overflow.
POOL_SIZE_MAX = 5
# While gunicorn reloads or replicas are replaced, the old workers are still there.
GENERATIONS = 2
# Measured: 36 MiB of its own (PSS).
MASTER_MEMORY_MIB = 50


@dataclass(frozen=True)
class Plan:
    """`connections` is the most that this service ever opens, reload included."""

    workers: int
    pool_size: int
    connections: int
    connection_budget: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.workers} workers with {self.pool_size} connections each: " + "; ".join(
            self.reasons
        )


def plan_capacity(
    settings: ServerSettings, machine: Machine, web_concurrency: int | None = None
) -> Plan:
    """What the operator sets wins, and is told when it is more than there is room for."""
    by_resource = _workers_by_resource(settings, machine)
    planned = max(1, min(allowed for allowed, _ in by_resource))
    reasons = [f"{resource} have room for {allowed}" for allowed, resource in by_resource]
    workers = web_concurrency or planned
    if workers != planned:
        reasons.append(f"WEB_CONCURRENCY sets {workers} instead of {planned}")
    pool_size = plan_pool_size(settings, workers)
    connections = settings.replicas * workers * pool_size * GENERATIONS
    reasons.append(
        f"replicas {settings.replicas} x workers {workers} x pool {pool_size}"
        f" x {GENERATIONS} while reloading = {connections} connections"
    )
    budget = settings.database_connection_budget
    return Plan(workers, pool_size, connections, budget, tuple(reasons))


def plan_pool_size(settings: ServerSettings, workers: int) -> int:
    if settings.database_pool_size:
        return settings.database_pool_size
    room = settings.database_connection_budget // (settings.replicas * workers * GENERATIONS)
    return max(1, min(room, POOL_SIZE_MAX))


def worker_memory_mib(settings: ServerSettings) -> int:
    """Two generations of a warm worker, and what one of them takes at its peak."""
    return GENERATIONS * settings.worker_memory_mib + settings.worker_peak_memory_mib


def _workers_by_resource(settings: ServerSettings, machine: Machine) -> list[tuple[int, str]]:
    """How many workers each resource has room for, and its name."""
    limits = [_workers_by_cpu(machine)]
    if machine.memory_bytes is not None:
        mib = machine.memory_bytes // 2**20
        room = max(0, mib - MASTER_MEMORY_MIB) // worker_memory_mib(settings)
        limits.append((room, f"{mib} MiB of memory"))
    room = settings.database_connection_budget // (settings.replicas * GENERATIONS)
    limits.append((room, f"{settings.database_connection_budget} connections"))
    return limits


def _workers_by_cpu(machine: Machine) -> tuple[int, str]:
    if machine.cpu_quota is not None and machine.cpu_quota < machine.cores:
        cores, reason = machine.cpu_quota, f"a quota of {machine.cpu_quota:g} cores"
    else:
        cores, reason = float(machine.cores), f"{machine.cores} cores"
    return (1 if cores < 1 else max(WORKERS_MIN, int(cores))), reason
