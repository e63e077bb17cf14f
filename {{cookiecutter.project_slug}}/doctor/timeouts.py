"""The order of timeouts: which must end before which, and a finding for each pair that does not.

The values come from the settings here and from the modules that read a kind of file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from doctor.finding import Finding, error
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

TIMEOUTS: Mapping[str, Timeout] = {
    "pool_wait": Timeout("DATABASE_POOL_TIMEOUT_SECONDS", 3),
    "connect": Timeout("DATABASE_CONNECT_TIMEOUT_SECONDS", 5),
    "lock": Timeout("LOCK_TIMEOUT_SECONDS", 5),
    "peer": Timeout("DATABASE_PEER_TIMEOUT_SECONDS", 12),
    "command": Timeout("DATABASE_COMMAND_TIMEOUT_SECONDS", 20),
    "statement": Timeout("STATEMENT_TIMEOUT_SECONDS", 15),
    "deadline": Timeout("REQUEST_DEADLINE_SECONDS", 25),
    "idle_in_transaction": Timeout("IDLE_IN_TRANSACTION_SESSION_TIMEOUT_SECONDS", 30),
    "proxy_connect": Timeout("proxy_connect_timeout", 5),
    "next_upstream": Timeout("proxy_next_upstream_timeout", 10),
    "stall": Timeout("SERVER_TIMEOUT_SECONDS", 30),
    "proxy_read": Timeout("proxy_read_timeout", 30),
    "stream_read": Timeout("proxy_read_timeout beside proxy_buffering off", 3600),
    "websocket_ping": Timeout("UVICORN_WS_PING_INTERVAL", 20),
    "balancer": Timeout("LOAD_BALANCER_TIMEOUT_SECONDS", 60),
    "client_keepalive": Timeout("keepalive_timeout of http", 75),
    "upstream_keepalive": Timeout("keepalive_timeout of upstream", 2.5),
    "lame_duck": Timeout("SERVER_LAME_DUCK_SECONDS", 3),
    "server_keepalive": Timeout("SERVER_KEEPALIVE_SECONDS", 75),
    "last_request": Timeout("SERVER_LAME_DUCK_SECONDS + REQUEST_DEADLINE_SECONDS", 28),
    "drain": Timeout(f"SERVER_GRACEFUL_TIMEOUT_SECONDS - {SHUTDOWN_MARGIN_SECONDS}", 28),
    "graceful": Timeout("SERVER_GRACEFUL_TIMEOUT_SECONDS", 30),
    "stop": Timeout("stop_grace_period or TimeoutStopSec", 40),
    "pod_stop": Timeout("terminationGracePeriodSeconds - preStop", 38),
    "nginx_pre_stop": Timeout("preStop of nginx", 5),
    "app_pre_stop": Timeout("preStop of the service", 7),
    "nginx_shutdown": Timeout("worker_shutdown_timeout", 35),
    "nginx_stop": Timeout("stop_grace_period or terminationGracePeriodSeconds of nginx", 40),
    "ready": Timeout("READY_WITHIN_SECONDS", 1),
    "ready_probe": Timeout("timeoutSeconds of readinessProbe", 2),
}

ORDERS = (
    Order("pool_wait", "statement", "Who waited for a connection still needs time for its query."),
    Order("lock", "statement", "A lock is given up before the statement that waits for it."),
    Order("connect", "deadline", "A lost database must be a 503, not a 504."),
    Order(
        "statement", "command", "PostgreSQL ends the statement; the driver would only stop waiting."
    ),
    Order("peer", "command", "A host that is gone is told apart from a slow statement."),
    Order("command", "deadline", "A database that hangs must be a 503, not a 504."),
    Order("statement", "deadline", "PostgreSQL would work on for a request that has its 504."),
    Order(
        "deadline", "idle_in_transaction", "PostgreSQL would cut the connection of a live request."
    ),
    Order("deadline", "proxy_read", "nginx would answer 504 while the worker goes on."),
    Order("next_upstream", "stall", "A GET that stalled one worker would be given to the next."),
    Order("proxy_connect", "proxy_read", "A dead replica is found sooner than a slow one."),
    Order("proxy_read", "balancer", "The balancer would give up before nginx has answered."),
    Order("balancer", "client_keepalive", "The balancer would send into a closing connection."),
    Order("websocket_ping", "stream_read", "nginx would cut a WebSocket between two pings."),
    Order("upstream_keepalive", "server_keepalive", "A POST would meet a closing socket: 502."),
    Order(
        "upstream_keepalive", "lame_duck", "A worker that leaves would close what nginx still uses."
    ),
    Order("last_request", "drain", "A request accepted last would be cut.", may_be_equal=True),
    Order("drain", "graceful", "gunicorn would kill a worker that still drains."),
    Order("graceful", "stop", "SIGKILL would come before the requests are finished."),
    Order("graceful", "pod_stop", "SIGKILL would come before the requests are finished."),
    Order("nginx_pre_stop", "app_pre_stop", "gunicorn would stop while nginx still accepts."),
    Order("proxy_read", "nginx_shutdown", "A reload of nginx would cut answers under way."),
    Order("nginx_shutdown", "nginx_stop", "nginx would be killed while it finishes."),
    Order("ready", "ready_probe", "The probe would not hear the 503 that the app sends."),
)


def broken_orders(values: Values) -> list[Finding]:
    """One finding for each order that does not hold; timeouts without a value are left out."""
    complete = {**values, **_derived(values)}
    return [finding for order in ORDERS for finding in _broken(order, complete)]


def setting_values(settings: AllSettings) -> dict[str, list[Value]]:
    """The timeouts that are settings alone."""
    from_settings = {
        name: [Value(float(getattr(settings, timeout.name.lower())), timeout.name)]
        for name, timeout in TIMEOUTS.items()
        if timeout.name.lower() in AllSettings.model_fields
    }
    ping = TIMEOUTS["websocket_ping"].name
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
    first, second = TIMEOUTS[order.shorter], TIMEOUTS[order.longer]
    # The one that is no longer at its default is likely the mistake.
    is_first = shorter.seconds > first.default_seconds
    default = first.default_seconds if is_first else second.default_seconds
    bound = f"below {longer.seconds:g} s" if is_first else f"above {shorter.seconds:g} s"
    than = "longer" if order.may_be_equal else "not shorter"
    return error(
        "timeouts",
        f"{first.name} ({shorter.seconds:g} s) is {than} than {second.name}"
        f" ({longer.seconds:g} s, {longer.where if is_first else shorter.where}).",
        shorter.where if is_first else longer.where,
        order.why,
        f"Write {(first if is_first else second).name} {bound}; it is {default:g} s by default.",
    )
