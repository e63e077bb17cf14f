"""deploy/compose/pgbouncer.ini: its timeouts are in the order, its pool in the budget."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from doctor.files.deployment import read_environment_file
from doctor.finding import Entry, Finding, mistake
from doctor.rules import broken_rules, read_rules
from doctor.timeouts import Value

FILE = Path("deploy/compose/pgbouncer.ini")
_DATABASE = "*"
# What the service sets itself where it is connected directly, in milliseconds.
_QUERY_TIMEOUTS = {
    "statement_timeout": "statement",
    "lock_timeout": "lock",
    "idle_in_transaction_session_timeout": "idle_in_transaction",
}
# https://www.pgbouncer.org/config.html has the defaults.
_POOL_SIZE_DEFAULT = "20"
_QUERY_WAIT_SECONDS_DEFAULT = "120"
_RULES = Path(__file__).with_suffix(".toml")


def read_pgbouncer(root: Path) -> Mapping[str, Entry]:
    """Its lines read like those of an environment file; comments begin with another character."""
    return read_environment_file(root, root / FILE)


def pgbouncer_timeouts(entries: Mapping[str, Entry]) -> dict[str, list[Value]]:
    return {timeout: [value] for timeout, value in _timeouts(entries)} if entries else {}


def check_pgbouncer(entries: Mapping[str, Entry], budget: int) -> Iterator[Finding]:
    if not entries:
        return
    yield from broken_rules(read_rules(_RULES)["pgbouncer"], entries.get, str(FILE))
    pool = entries.get("default_pool_size") or Entry(_POOL_SIZE_DEFAULT, str(FILE))
    if pool.value.isdecimal() and int(pool.value) > budget:
        yield mistake("pool_over_budget", pool.where, pool=pool.value, budget=budget)


def _timeouts(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Value]]:
    """0 and a missing line of connect_query both mean that nothing ends."""
    wait = entries.get("query_wait_timeout") or Entry(_QUERY_WAIT_SECONDS_DEFAULT, str(FILE))
    if wait.value.isdecimal():
        yield "pool_wait", Value(float(wait.value) or float("inf"), wait.where)
    database = entries.get(_DATABASE) or Entry("", str(FILE))
    set_there = dict(re.findall(r"SET (\w+) = (\d+)", database.value))
    for name, timeout in _QUERY_TIMEOUTS.items():
        seconds = int(set_there.get(name, 0)) / 1000
        yield timeout, Value(seconds or float("inf"), database.where)
