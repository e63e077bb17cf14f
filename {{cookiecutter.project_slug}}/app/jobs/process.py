"""The process that runs the jobs, `manage work`; docs/jobs.md says what it survives."""

import asyncio
import faulthandler
import json
import logging
import os
import random
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import structlog
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.app import WorkerOptions
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job
from procrastinate.worker import Worker
from prometheus_client import CollectorRegistry, start_http_server

from app.database import Database, close_engine, create_engine
from app.errors import AppError
from app.jobs import repository
from app.jobs.queue import TASKS, Work
from app.mail import build_mailer
from app.metrics import JOB_SECONDS, JOBS, JOBS_OLDEST_SECONDS
from app.settings import Settings
from app.telemetry import running_telemetry
from server.capacity import jobs_pool_size
from server.logs import configure_logging
from server.metrics import OwnValues
from server.settings import ServerSettings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# More than any statement may take (DATABASE_COMMAND_TIMEOUT_SECONDS, 20 s): a loop or a database
# that hangs ends the process, which is started again, with all stacks in the log.
STUCK_SECONDS = 60
CARE_SECONDS_MAX = 10
# Of a job, to clean up once it is cancelled.
CANCEL_SECONDS = 3
# 5 s, 15 s, 45 s ... the last after about 3 hours; then the job has failed, and stays.
RETRIES_MAX = 8
FIRST_RETRY_SECONDS = 5
RETRY_FACTOR = 3

# %(name)s of psycopg is :name of SQLAlchemy, in brackets where a :: follows.
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Backoff(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if job.attempts >= RETRIES_MAX:
            return None
        # Those that failed together do not come back together.
        seconds = FIRST_RETRY_SECONDS * RETRY_FACTOR**job.attempts * random.uniform(0.5, 1.5)  # noqa: S311
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


class Connector(BaseAsyncConnector):
    """Runs procrastinate's statements in sessions of ours: no second pool, and every connection is
    what app/database.py makes it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # What a lost answer has done is not known: the job may be marked as running by nobody.
        self.has_failed = asyncio.Event()

    async def execute_query_async(self, query: str, **arguments: object) -> None:
        await self.execute_query_all_async(query, **arguments)

    async def execute_query_one_async(self, query: str, **arguments: object) -> dict[str, object]:
        return (await self.execute_query_all_async(query, **arguments))[0]

    async def execute_query_all_async(
        self, query: str, **arguments: object
    ) -> list[dict[str, object]]:
        sql = _PARAMETER.sub(r"(:\1)", query)
        values = {
            name: json.dumps(value) if isinstance(value, dict) else value
            for name, value in arguments.items()
        }
        try:
            async with self._database.transaction() as session:
                return [{**row} for row in await repository.execute(session, sql, values)]
        except Exception:
            self.has_failed.set()
            raise


def build_queue(connector: Connector, work: Work) -> App:
    queue = App(connector=connector)
    for one in TASKS.values():
        retry = Backoff() if one.may_run_twice else False
        made = queue.task(name=one.name, retry=retry)(partial(one.run, work))
        if one.cron:
            queue.periodic(cron=one.cron)(made)
    return queue


def run(settings: Settings, server: ServerSettings) -> None:
    """Until TERM or INT; after HUP with what is then installed and set."""
    # Its lines have the arguments of the jobs; the middleware writes some without.
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    logging.getLogger("procrastinate.worker").setLevel(logging.CRITICAL)
    # A task that nobody knows.
    logging.getLogger("procrastinate.worker.worker").setLevel(logging.ERROR)
    if asyncio.run(_work(settings, server)) == signal.SIGHUP:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


async def _work(settings: Settings, server: ServerSettings) -> int:
    """The signal that ended it."""
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, _tell, told, number)
    size = jobs_pool_size(server)
    engine = create_engine(settings, size, process="-jobs")
    database = Database(engine, size, settings.database_pool_timeout_seconds)
    work = Work(database, settings, build_mailer(settings))
    try:
        async with running_telemetry(settings) as report, asyncio.TaskGroup() as group:
            configure_logging(settings, report)
            caring = group.create_task(_care(work, server))
            while not told.done():
                await _run_worker(work, server.jobs_concurrency, told)
            caring.cancel()
    finally:
        database.close()
        await close_engine(engine)
    return told.result()


def _tell(told: asyncio.Future[int], number: int) -> None:
    if not told.done():
        told.set_result(number)


async def _run_worker(work: Work, concurrency: int, told: asyncio.Future[int]) -> None:
    """Until it is told to end, or a statement has failed: a new one then takes over."""
    connector = Connector(work.database)
    queue = build_queue(connector, work)
    worker = asyncio.create_task(queue.run_worker_async(**_options(work.settings, concurrency)))
    failing = asyncio.create_task(connector.has_failed.wait())
    waited = cast("list[asyncio.Future[None]]", [worker, failing, told])
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    failing.cancel()
    worker.cancel()
    seconds = work.settings.jobs_graceful_seconds + CANCEL_SECONDS
    ended, _ = await asyncio.wait({worker}, timeout=seconds)
    if not ended:
        log.error("jobs ignore that they are cancelled")
        os._exit(1)
    error = None if worker.cancelled() else worker.exception()
    if not told.done():
        log.warning("the jobs begin anew: a statement of the queue has failed", reason=repr(error))
        # All processes lose the same database at the same moment.
        await asyncio.wait({told}, timeout=random.uniform(1, 3))  # noqa: S311


def _options(settings: Settings, concurrency: int) -> WorkerOptions:
    return {
        "concurrency": concurrency,
        "fetch_job_polling_interval": settings.jobs_poll_seconds,
        # NOTIFY would wait in every commit that enqueues for all others; the migration has
        # dropped its triggers.
        "listen_notify": False,
        "shutdown_graceful_timeout": settings.jobs_graceful_seconds,
        "delete_jobs": "successful",
        "update_heartbeat_interval": settings.jobs_silent_seconds / 3,
        "stalled_worker_timeout": settings.jobs_silent_seconds,
        "install_signal_handlers": False,
        "worker_middleware": [_observe],
    }


async def _observe(
    call_next: Callable[[], Awaitable[object]], context: JobContext, _worker: Worker
) -> object:
    job, began = context.job, time.perf_counter()
    outcome = "failed"
    with structlog.contextvars.bound_contextvars(
        job=job.task_name, job_id=job.id, attempt=job.attempts + 1
    ):
        try:
            result = await call_next()
            outcome = "succeeded"
        except Exception:
            log.exception("job failed")
            raise
        finally:
            seconds = time.perf_counter() - began
            JOB_SECONDS.observe(seconds, job.task_name, outcome)
            log.info("job", outcome=outcome, seconds=round(seconds, 3))
    return result


async def _care(work: Work, server: ServerSettings) -> None:
    """Rescues, counts, and shows that the process lives."""
    has_listener = False
    while True:
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        has_listener = has_listener or _serve_metrics(server)
        try:
            await _rescue(work)
            await _measure(work.database)
        except AppError as error:
            log.warning("jobs wait", reason=str(error.detail))
        await asyncio.sleep(min(CARE_SECONDS_MAX, work.settings.jobs_silent_seconds / 3))


def _serve_metrics(server: ServerSettings) -> bool:
    if server.jobs_metrics_port == 0:
        return True
    try:
        registry = CollectorRegistry()
        registry.register(OwnValues())
        start_http_server(server.jobs_metrics_port, server.metrics_host, registry)
    except OSError as error:  # the process that this one replaces still has it
        log.warning("no metrics of the jobs yet", reason=str(error))
        return False
    return True


async def _rescue(work: Work) -> None:
    silent_for = timedelta(seconds=work.settings.jobs_silent_seconds)
    names = [name for name, one in TASKS.items() if one.may_run_twice]
    for job in await repository.rescue_jobs(work.database, silent_for, names, RETRIES_MAX):
        log.warning("job of a lost process", **job)


async def _measure(database: Database) -> None:
    figures = await repository.count_jobs(database)
    for status in ("todo", "doing", "failed"):
        JOBS.set(figures[status], status)
    JOBS_OLDEST_SECONDS.set(figures["oldest_seconds"])
