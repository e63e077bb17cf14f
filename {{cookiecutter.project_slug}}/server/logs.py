"""One line format for every logger: structlog for our own, stdlib for gunicorn and libraries."""

import json
import logging
import logging.config
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import BinaryIO, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

from server.output import standard_output
from server.settings import LogSettings

# Takes the exception that a line tells of, and the line.
Report = Callable[[BaseException, Mapping[str, object]], None]

# What libraries put into messages: an address with its password, tokens, values that were refused.
_SECRETS = re.compile(
    r"(?<=://)[^\s/@]*:[^\s/@]+(?=@)|(?<=Bearer )\S+|\beyJ[\w.-]{16,}|\bDETAIL: .*"
    r"|(?<='input': ).*|(?<=input_value=).*(?=, input_type=)"
)


def scrub(text: str) -> str:
    return _SECRETS.sub("…", text)


def configure_logging(
    settings: LogSettings, report: Report | None = None, *, for_good: bool = True
) -> None:
    """For good: what is configured later changes nothing, and a line costs less."""
    logging.config.dictConfig(logging_config(settings, report))
    is_console = settings.log_format == "console"
    render = _console() if is_console else structlog.processors.JSONRenderer(_dumps)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        # Our own lines skip the stdlib: 41 us instead of 98 us a line.
        processors=[*_processors(), partial(_tell_exception, report), render],
        # A class of its own, which `set_debug` may change; structlog's is shared.
        wrapper_class=type("Logger", (structlog.make_filtering_bound_logger(level),), {}),
        logger_factory=(
            structlog.WriteLoggerFactory(cast("TextIO", standard_output()))
            if is_console
            else structlog.BytesLoggerFactory(cast("BinaryIO", standard_output()))
        ),
        cache_logger_on_first_use=for_good,
    )


def set_debug(is_on: bool, settings: LogSettings) -> None:
    """All lines, or those of LOG_LEVEL again, in a process that is configured already."""
    name = "DEBUG" if is_on else settings.log_level.upper()
    logging.getLogger().setLevel(name)
    bound = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[name])
    if structlog.is_configured():  # the app, not the master
        # Loggers that have written a line keep their class, so it is that one which changes.
        for method in ("debug", "info", "warning", "error"):
            setattr(structlog.get_config()["wrapper_class"], method, getattr(bound, method))


def logging_config(settings: LogSettings, report: Report | None = None) -> dict[str, object]:
    """A `logging.config` dictionary; gunicorn.conf.py hands it to gunicorn."""
    is_console = settings.log_format == "console"
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*_processors(), structlog.stdlib.add_logger_name],
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            partial(_tell_exception, report),
            _console() if is_console else structlog.processors.JSONRenderer(_dumps_text),
        ],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"without_query": {"()": QueryFilter}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "stream": standard_output(),
                "filters": ["without_query"],
            }
        },
        "root": {"level": settings.log_level.upper(), "handlers": ["stdout"]},
        "loggers": {"gunicorn.error": {"propagate": True}, "uvicorn.error": {"propagate": True}},
    }


class QueryFilter(logging.Filter):
    """Uvicorn's lines about WebSockets have the query string, where tokens may be."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "uvicorn.error" and isinstance(record.args, tuple):
            record.args = tuple(map(_without_query, record.args))
        return True


def _without_query(argument: object) -> object:
    is_path = isinstance(argument, str) and argument.startswith("/")
    return str(argument).partition("?")[0] if is_path else argument


def _processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _tell_exception(
    report: Report | None, logger: object, method: str, line: EventDict
) -> EventDict:
    if "exc_info" not in line:
        return line
    error = line["exc_info"]
    error = error[1] if isinstance(error, tuple) else error
    error = sys.exception() if error is True else error
    if report is not None and isinstance(error, BaseException):
        report(error, line)
    told = structlog.processors.format_exc_info(logger, method, line)
    if "exception" in told:
        told["exception"] = scrub(told["exception"])
    return told


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(colors=sys.stdout is not None and sys.stdout.isatty())


def _dumps(value: object, **_options: object) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # half of a surrogate pair, a number of more than 64 bits, an odd key
        return json.dumps(value, default=str, skipkeys=True).encode()


def _dumps_text(value: object, **_options: object) -> str:
    return _dumps(value).decode()
