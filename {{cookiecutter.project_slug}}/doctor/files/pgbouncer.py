"""deploy/compose/pgbouncer.ini: its timeouts are in the order, its pool in the budget."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from doctor.files.deployment import read_environment_file
from doctor.finding import Entry, Finding, error
from doctor.timeouts import Value

FILE = Path("deploy/compose/pgbouncer.ini")
_DATABASE = "*"
# What the service sets itself where it is connected directly, in milliseconds.
_QUERY_TIMEOUTS = {
    "statement_timeout": "statement",
    "lock_timeout": "lock",
    "idle_in_transaction_session_timeout": "idle_in_transaction",
}


def read_pgbouncer(root: Path) -> Mapping[str, Entry]:
    """Its lines read like those of an environment file; comments begin with another character."""
    return read_environment_file(root, root / FILE)


def pgbouncer_timeouts(entries: Mapping[str, Entry]) -> dict[str, list[Value]]:
    return {timeout: [value] for timeout, value in _timeouts(entries)}


def check_pgbouncer(entries: Mapping[str, Entry], budget: int) -> Iterator[Finding]:
    pool = entries.get("default_pool_size")
    if pool and pool.value.isdecimal() and int(pool.value) > budget:
        yield error(
            "connection budget",
            f"PgBouncer opens up to {pool.value} connections, and the budget is {budget}.",
            pool.where,
            "PostgreSQL refuses what is over its limit: too many clients.",
            "Lower default_pool_size, or raise DATABASE_CONNECTION_BUDGET.",
        )
    mode = entries.get("pool_mode")
    if mode and mode.value != "transaction":
        yield error(
            "connection budget",
            f"pool_mode is {mode.value}.",
            mode.where,
            "Every connection of the service then keeps one of PostgreSQL's, so nothing is saved.",
            "Write pool_mode = transaction.",
        )


def _timeouts(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Value]]:
    wait = entries.get("query_wait_timeout")
    if wait and wait.value.isdecimal():
        yield "pool_wait", Value(float(wait.value), wait.where)
    database = entries.get(_DATABASE)
    if database:
        for name, milliseconds in re.findall(r"SET (\w+) = (\d+)", database.value):
            if name in _QUERY_TIMEOUTS:
                yield _QUERY_TIMEOUTS[name], Value(int(milliseconds) / 1000, database.where)
