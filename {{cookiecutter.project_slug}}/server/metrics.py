"""Counters, gauges and histograms of this process; `server/exporter.py` serves the sum of all.

Below gunicorn their values lie in files of shared memory: nothing is buffered, so a worker that is
killed takes no count with it. Elsewhere they are ordinary values (`OwnValues`).
"""

import logging
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import Generic, TypeVar, cast

import prometheus_client
from prometheus_client import Metric, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

# Names the directory to prometheus-client, from the master down to all that it forks.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# A name, its labels and its value; prometheus-client doubles a file that is full.
FILE_BYTES = 65_536
ENTRY_BYTES = 32
# What stands for the routes, methods and labels that are too many.
OTHER = "other"
# Of one instrument: more would be paths or names of strangers, and fill memory everywhere.
CHILDREN_MAX = 1_000
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Around the objective of 0.25 s (deploy/observability). New edges need a restart of the master:
# after a reload both sets would be counted as one.
DURATION_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LAG_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

Child = TypeVar(
    "Child", prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram
)


class ReservedFile(MmapedDict):
    """Has its memory before it is written to.

    A sparse file on a full disk takes a write as SIGBUS, which kills; this is an OSError.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        with open(filename, "ab") as file:
            if file.tell() == 0:
                file.write(bytes(FILE_BYTES))
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + ENTRY_BYTES > self._capacity:
            self._f.write(bytes(self._capacity))
            self._f.flush()
        super()._init_value(key)  # type: ignore[no-untyped-call]


def use_own_files() -> None:
    """In the master and after each fork, before the first value; the directory is set there."""
    vars(values)["MmapedDict"] = ReservedFile
    # The class of every value that is made from now on.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


class _Lost:
    """Takes what has no file: a request is worth more than its count."""

    def count(self, _amount: float) -> None: ...

    inc = observe = set = count


class _Instrument(Generic[Child]):
    """Made at its first use; keeps its children, since finding them costs as much as counting."""

    def __init__(self, name: str, make: Callable[[], Child]) -> None:
        self._name = name
        self._make: Callable[[], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}
        self._parent: Child | None = None

    def _child(self, labels: tuple[str, ...]) -> Child:
        child = self._children.get(labels)
        return self._add_child(labels) if child is None else child

    def _add_child(self, labels: tuple[str, ...]) -> Child:
        if labels and len(self._children) >= CHILDREN_MAX:
            labels = (OTHER,) * len(labels)
        try:
            if self._parent is None:
                self._parent = self._make()
                _made.append(self._parent)
            child = self._parent.labels(*labels) if labels else self._parent
        except OSError as error:
            log.error("%s is not counted any more: %s", self._name, error)
            child = cast("Child", _Lost())
        self._children[labels] = child
        return child


_made: list[Collector] = []


class OwnValues(Collector):
    """Of a process that is no worker, and writes no files."""

    def collect(self) -> Iterable[Metric]:
        return [metric for instrument in [*_made] for metric in instrument.collect()]


class Counter(_Instrument[prometheus_client.Counter]):
    # The documentation is a part of the key of every value in the files, so keep it short.
    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        make = partial(prometheus_client.Counter, name, documentation, labels, registry=None)
        super().__init__(name, make)

    def add(self, amount: float = 1, *labels: str) -> None:
        self._child(labels).inc(amount)


class Gauge(_Instrument[prometheus_client.Gauge]):
    """The sum of all living processes. `each`: one value a process, with its id as a label."""

    def __init__(self, name: str, documentation: str, *labels: str, each: bool = False) -> None:
        make = partial(
            prometheus_client.Gauge,
            name,
            documentation,
            labels,
            registry=None,
            multiprocess_mode="liveall" if each else "livesum",
        )
        super().__init__(name, make)

    def set(self, value: float, *labels: str) -> None:
        self._child(labels).set(value)


class Histogram(_Instrument[prometheus_client.Histogram]):
    def __init__(
        self, name: str, documentation: str, *labels: str, edges: tuple[float, ...] = DURATION_EDGES
    ) -> None:
        make = partial(
            prometheus_client.Histogram, name, documentation, labels, registry=None, buckets=edges
        )
        super().__init__(name, make)

    def observe(self, value: float, *labels: str) -> None:
        self._child(labels).observe(value)


_REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "From the first byte to the end of the answer",
    "method",
    "route",
    "status",
)


def record_request(method: str, route: str, status: int, seconds: float) -> None:
    _REQUESTS.observe(seconds, method if method in METHODS else OTHER, route, str(status))


def route_of(scope: MutableMapping[str, object]) -> str:
    """The template of the route that took the request, never its path, which is the client's."""
    fastapi = cast("dict[str, object]", scope.get("fastapi", {}))
    # FastAPI's knows the prefixes of its routers.
    route = fastapi.get("effective_route_context") or scope.get("route")
    path = getattr(route, "path", None)
    if path is None:
        return OTHER
    root, above = str(scope.get("root_path", "")), str(scope.get("app_root_path", ""))
    is_mounted = "app_root_path" in scope
    return f"{root.removeprefix(above)}{path}" if is_mounted else str(path)
