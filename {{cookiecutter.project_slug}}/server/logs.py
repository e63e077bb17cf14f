"""One line format for every logger: structlog for our own, stdlib for gunicorn and libraries."""

import logging
import logging.config
import sys

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from server.settings import LogSettings


def configure_logging(settings: LogSettings) -> None:
    logging.config.dictConfig(logging_config(settings))
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *_shared_processors(),
        structlog.processors.format_exc_info,
    ]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        # Our own lines skip the stdlib: 41 us instead of 98 us a line.
        processors=[*processors, _renderer(settings.log_format, own=True)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_logger_factory(settings.log_format),
        cache_logger_on_first_use=True,
    )


def logging_config(settings: LogSettings) -> dict[str, object]:
    """A `logging.config` dictionary; gunicorn.conf.py hands it to gunicorn."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [structlog.contextvars.merge_contextvars, *_shared_processors()],
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _renderer(settings.log_format, own=False),
        ],
    }
    quiet = {"level": "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": "ext://sys.stdout",
            }
        },
        "root": {"level": settings.log_level.upper(), "handlers": ["stdout"]},
        "loggers": {
            # Ours is written by the middleware, with a duration and the request id.
            "uvicorn.access": {**quiet, "propagate": False},
            "gunicorn.access": {**quiet, "propagate": False},
            "gunicorn.error": {"propagate": True},
            "uvicorn.error": {"propagate": True},
        },
    }


def _shared_processors() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        _add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _add_logger_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _renderer(log_format: str, *, own: bool) -> Processor:
    if log_format == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    if own:
        return structlog.processors.JSONRenderer(serializer=orjson.dumps)
    return structlog.processors.JSONRenderer(serializer=_dumps_text)


def _dumps_text(value: object, **_options: object) -> str:
    return orjson.dumps(value, default=str).decode()


def _logger_factory(
    log_format: str,
) -> structlog.BytesLoggerFactory | structlog.PrintLoggerFactory:
    if log_format == "console":
        return structlog.PrintLoggerFactory()
    return structlog.BytesLoggerFactory()
