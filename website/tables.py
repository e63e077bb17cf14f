"""Runs in the service's environment: prints what its plan and its timeouts are made of."""

import json
import sys
from dataclasses import asdict

from doctor.timeouts import read_table
from server import capacity
from server.settings import ServerSettings

SETTINGS = ("worker_memory_mib", "worker_peak_memory_mib", "database_connection_budget")

if __name__ == "__main__":
    constants = {
        name: value for name, value in vars(capacity).items() if name.isupper() and name[0] != "_"
    }
    settings = {name: ServerSettings.model_fields[name].default for name in SETTINGS}
    timeouts = {name: asdict(one) for name, one in read_table().timeouts.items()}
    orders = [asdict(order) for order in read_table().orders]
    tables = {"capacity": constants, "settings": settings, "timeouts": timeouts, "orders": orders}
    json.dump(tables, sys.stdout, indent=1)
