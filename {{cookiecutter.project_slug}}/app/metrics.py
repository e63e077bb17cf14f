"""What the app counts, and what each request has cost; server/metrics.py says how it is kept."""

import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, Engine, ExceptionContext, event

from server.metrics import Counter, Gauge, Histogram

log = logging.getLogger(__name__)

POOL_SIZE = Gauge("app_database_pool_size", "Connections that may be open")
POOL_IN_USE = Gauge("app_database_pool_in_use", "Connections that requests hold")
POOL_WAITING = Gauge("app_database_pool_waiting", "Requests that wait for one")
# Its rate divided by the size is the part of the pool that was in use, peaks included.
POOL_BUSY = Counter("app_database_pool_busy_seconds_total", "Held by requests")
# Of those alone that found no free one.
POOL_WAIT = Histogram("app_database_pool_wait_seconds", "Until a connection was free")
SQL_SECONDS = Counter(
    "app_sql_seconds_total", "As the request sees it, busy loop included", "route"
)
SQL_STATEMENTS = Counter("app_sql_statements_total", "Statements", "route")
PASSWORDS_PENDING = Gauge("app_password_hashes_pending", "Hashes that run or wait")
SHED = Counter("app_requests_shed_total", "Answered 503: come back later", "reason")
DEADLINES_MISSED = Counter("app_deadlines_missed_total", "Answered 504: took too long")
SECURITY_EVENTS = Counter("app_security_events_total", "docs/security-events.md", "event", "door")
JOBS = Gauge("app_jobs", "In the queue; the same of all processes", "status")
JOBS_OLDEST_SECONDS = Gauge("app_jobs_oldest_seconds", "Since the oldest one could have run")
JOB_SECONDS = Histogram("app_job_duration_seconds", "Of each run", "task", "outcome")
INFO = Gauge("app_info", "One for each worker", "version", "revision")


# Of the state of the service; every few seconds, so neither logged nor traced.
PROBES = frozenset({"/livez", "/readyz"})


class Trace(Protocol):
    """What app/tracing.py puts into the state of a request that is traced."""

    @property
    def id(self) -> str: ...

    def add_statement(self, sql: str, seconds: float, error: BaseException | None) -> None: ...


@dataclass(slots=True)
class RequestRecord:
    """Filled by whoever knows; the middleware writes it into the access line and the metrics."""

    method: str = "GET"
    trace: Trace | None = None
    # 0: the client left before there was one.
    status: int = 0
    is_stream: bool = False
    sql_seconds: float = 0.0
    sql_count: int = 0
    pool_wait_seconds: float = 0.0
    # The ids of whoever is signed in.
    account: Mapping[str, str] = field(default_factory=dict)


# Set once for each request and then changed in place: tasks of the request share it.
current_record: ContextVar[RequestRecord | None] = ContextVar("current_record", default=None)


def record_statement(sql: str, began: float, error: BaseException | None = None) -> None:
    record = current_record.get()
    if record is not None:
        seconds = time.perf_counter() - began
        record.sql_seconds += seconds
        record.sql_count += 1
        if record.trace is not None:
            record.trace.add_statement(sql, seconds, error)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%.2f ms: %s", seconds * 1000, " ".join(sql.split()))


def record_wait(seconds: float) -> None:
    POOL_WAIT.observe(seconds)
    record = current_record.get()
    if record is not None:
        record.pool_wait_seconds += seconds


def watch_statements(engine: Engine) -> None:
    """Those of sessions; `Database.read_all` knows its own."""
    event.listen(engine, "before_cursor_execute", _start_clock)
    event.listen(engine, "after_cursor_execute", _stop_clock)
    event.listen(engine, "handle_error", _stop_clock_of_failed)


def _start_clock(connection: Connection, *_statement: object) -> None:
    connection.info["statement_began"] = time.perf_counter()


def _stop_clock(connection: Connection, _cursor: object, sql: str, *_rest: object) -> None:
    record_statement(sql, connection.info["statement_began"])


def _stop_clock_of_failed(context: ExceptionContext) -> None:
    connection, sql = context.connection, context.statement
    if connection is not None and sql is not None:
        began = connection.info["statement_began"]
        record_statement(sql, began, context.original_exception)
