"""The order of timeouts: which must end before which, and a finding for each pair that does not.

The values come from the settings here and from the modules that read a kind of file.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from pydantic import BaseModel

from doctor.finding import Finding, mistake
from doctor.settings import AllSettings
from server.uvicorn_options import read_uvicorn_options
from server.worker import SHUTDOWN_MARGIN_SECONDS


@dataclass(frozen=True)
class Timeout:
    """`name` as it is written where it is set: a setting, or a directive and its place."""

    name: str
    default_seconds: float


@dataclass(frozen=True)
class Order:
    """The first must be shorter than the second, or at most as long."""

    shorter: str
    longer: str
    why: str
    may_be_equal: bool = False


@dataclass(frozen=True)
class Value:
    seconds: float
    where: str


Values = Mapping[str, Sequence[Value]]


class Table(BaseModel):
    """timeouts.toml."""

    timeouts: Mapping[str, Timeout]
    orders: Sequence[Order]


@cache
def read_table() -> Table:
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return Table.model_validate(tomllib.loads(text))


def broken_orders(values: Values) -> list[Finding]:
    """One finding for each order that does not hold; timeouts without a value are left out."""
    complete = {**values, **_derived(values)}
    return [finding for order in read_table().orders for finding in _broken(order, complete)]


def setting_values(settings: AllSettings) -> dict[str, list[Value]]:
    """The timeouts that are settings alone."""
    from_settings = {
        name: [Value(float(getattr(settings, timeout.name.lower())), timeout.name)]
        for name, timeout in read_table().timeouts.items()
        if timeout.name.lower() in AllSettings.model_fields
    }
    ping = read_table().timeouts["websocket_ping"].name
    seconds = float(str(read_uvicorn_options()["ws_ping_interval"]))
    return {**from_settings, "websocket_ping": [Value(seconds, ping)]}


def _derived(values: Values) -> Values:
    """Sums of others: what the worker has for its last requests, and what those may take."""
    return {
        "drain": [
            Value(max(1.0, graceful.seconds - SHUTDOWN_MARGIN_SECONDS), graceful.where)
            for graceful in values.get("graceful", ())
        ],
        "last_request": [
            Value(lame_duck.seconds + deadline.seconds, f"{deadline.where}, {lame_duck.where}")
            for lame_duck, deadline in product(
                values.get("lame_duck", ()), values.get("deadline", ())
            )
        ],
    }


def _broken(order: Order, values: Values) -> Iterator[Finding]:
    for shorter, longer in product(values.get(order.shorter, ()), values.get(order.longer, ())):
        holds = shorter.seconds < longer.seconds
        if holds or (order.may_be_equal and shorter.seconds == longer.seconds):
            continue
        yield _finding(order, shorter, longer)


def _finding(order: Order, shorter: Value, longer: Value) -> Finding:
    timeouts = read_table().timeouts
    first, second = timeouts[order.shorter], timeouts[order.longer]
    # The one that is no longer at its default is likely the mistake.
    is_first = shorter.seconds > first.default_seconds
    default = first.default_seconds if is_first else second.default_seconds
    bound = f"below {longer.seconds:g} s" if is_first else f"above {shorter.seconds:g} s"
    than = "longer" if order.may_be_equal else "not shorter"
    blamed, other = (shorter, longer) if is_first else (longer, shorter)
    return mistake(
        "order",
        blamed.where,
        shorter=f"{first.name} ({shorter.seconds:g} s)",
        than=than,
        longer=f"{second.name} ({longer.seconds:g} s, {other.where})",
        why=order.why,
        name=(first if is_first else second).name,
        bound=bound,
        default=default,
    )
