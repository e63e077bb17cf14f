"""Traces and error reports: nothing is imported and nothing costs until a setting asks for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig

from app.settings import Settings
from server.logs import Report, scrub

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

Flush = Callable[[], object]

# What is on its way when a worker ends; a receiver that is dead delays nobody for longer.
FLUSH_SECONDS = 1.0
# Of the log line with the exception; an event has nothing else of the request.
TAGS = ("request_id", "trace_id", "method")


def fastapi_telemetry(settings: Settings) -> TelemetryConfig:
    # Its metrics and logs would repeat ours. All three off: 5 us a request less than the default.
    config = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)
    if settings.traces_are_on:
        from app.tracing import leave_out  # noqa: PLC0415

        # A span for each dependency costs 50 us a request. Default: True.
        config |= TelemetryConfig(tracing=True, operation_spans=False, exclude=leave_out)
    return config


@asynccontextmanager
async def running_telemetry(settings: Settings) -> AsyncIterator[Report | None]:
    """With what takes exceptions, when there is somebody to report them to."""
    flushes: list[Flush] = []
    report = None
    if settings.traces_are_on:
        from app.tracing import start_tracing  # noqa: PLC0415

        flushes.append(start_tracing(settings))
    if settings.sentry_dsn is not None:
        report, flush = _start_error_reports(settings, settings.sentry_dsn.get_secret_value())
        flushes.append(flush)
    try:
        yield report
    finally:
        await asyncio.gather(*map(_flush_in_time, flushes))


def _start_error_reports(settings: Settings, dsn: str) -> tuple[Report, Flush]:
    import sentry_sdk  # noqa: PLC0415
    from sentry_sdk.integrations.dedupe import DedupeIntegration  # noqa: PLC0415

    def before_send(event: "Event", _hint: "Hint") -> "Event":
        for exception in event["exception"]["values"]:
            exception["value"] = scrub(exception["value"])
        return event

    def report(error: BaseException, line: Mapping[str, object]) -> None:
        tags = {name: str(line[name]) for name in TAGS if name in line}
        sentry_sdk.capture_exception(error, tags=tags)

    sentry_sdk.init(
        dsn,
        environment=settings.environment,
        release=settings.git_revision or settings.service_version,
        # They patch everything: 145 us a request. Defaults: True, True.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[DedupeIntegration()],
        before_send=before_send,
        # Passwords and tokens are variables. Default: True.
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
    )
    return report, lambda: sentry_sdk.flush(FLUSH_SECONDS)


async def _flush_in_time(flush: Flush) -> None:
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def run() -> None:
        flush()
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    # Not in the pool of threads: the end of the process would wait for it.
    Thread(target=run, daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await done.wait()
