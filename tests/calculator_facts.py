"""Runs in the service's environment: what its own code says of the inputs of the calculator."""

import json
import sys

from doctor.settings import AllSettings
from doctor.timeouts import Value, broken_orders, read_table
from server.capacity import plan_capacity
from server.machine import Machine
from server.settings import ServerSettings

NEEDED = {"database_url": "postgresql://app@127.0.0.1/app", "secret_key": "x" * 32}
# What PostgreSQL's own default of 100 keeps from the service.
CONNECTIONS_KEPT = 100 - ServerSettings.model_fields["database_connection_budget"].default


def plan(given):
    settings = ServerSettings.model_construct(
        replicas=given["replicas"],
        database_connection_budget=given["maxConnections"] - CONNECTIONS_KEPT,
    )
    # One number there: the cores, or the part of them that a quota leaves.
    cores, quota = given["cores"], None
    if not isinstance(cores, int):
        cores, quota = int(cores) + 1, cores
    made = plan_capacity(settings, Machine(cores, quota, given["memoryMib"] * 2**20))
    return {
        "workers": made.workers,
        "pool": made.pool_size,
        "connections": made.connections,
        "budget": made.connection_budget,
    }


def broken(timeouts):
    """By the doctor, which computes the sums itself; a value that no setting takes raises."""
    names = {read_table().timeouts[name].name.lower(): name for name in timeouts}
    settings = {one: timeouts[names[one]] for one in AllSettings.model_fields if one in names}
    AllSettings.model_validate(NEEDED | settings)
    values = {name: [Value(seconds, name)] for name, seconds in timeouts.items()}
    return [str(finding) for finding in broken_orders(values)]


json.dump(
    [
        {"plan": plan(one["input"]), "broken_orders": broken(one["answer"]["timeouts"])}
        for one in json.load(sys.stdin)
    ],
    sys.stdout,
)
