"""gunicorn.conf.py as gunicorn reads it, with what GUNICORN_CMD_ARGS changes."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

from gunicorn.config import Config

from doctor.finding import Finding, error, warning
from doctor.timeouts import Value

FILE = Path("gunicorn.conf.py")
# gunicorn's settings that the Uvicorn worker does not read.
_INERT = (
    "threads",
    "worker_connections",
    "accesslog",
    "access_log_format",
    "limit_request_line",
    "limit_request_fields",
    "limit_request_field_size",
    "statsd_host",
)


def read_gunicorn(root: Path) -> tuple[Config | None, list[Finding]]:
    """No configuration when there is no file, or when gunicorn could not read it either."""
    if not (root / FILE).is_file():
        return None, []
    config = Config()
    try:
        for name, value in runpy.run_path(str(root / FILE)).items():
            if name in config.settings:
                config.set(name, value)
        parsed = config.parser().parse_args(config.get_cmd_args_from_env())
        for name, value in vars(parsed).items():
            if value is not None and name in config.settings:
                config.set(name, value)
    # A configuration in Python may raise anything; gunicorn does not start with it.
    except (Exception, SystemExit) as raised:
        what = f"gunicorn cannot read it: {type(raised).__name__}."
        fix = "Run gunicorn --check-config."
        return None, [error("gunicorn", what, str(FILE), "The service does not start.", fix)]
    return config, []


def gunicorn_timeouts(root: Path, config: Config | None) -> dict[str, list[Value]]:
    if config is None:
        return {}
    return {
        "graceful": [Value(float(config.graceful_timeout), _where(root, "graceful_timeout"))],
        "server_keepalive": [Value(float(config.keepalive), _where(root, "keepalive"))],
    }


def check_gunicorn(root: Path, config: Config, *, in_production: bool) -> list[Finding]:
    return [
        *_check_stall(root, config),
        *_check_inert(root, config),
        *_check_recycling(root, config),
        *_check_reload(root, config, in_production=in_production),
    ]


def _check_stall(root: Path, config: Config) -> Iterator[Finding]:
    # Imports, a full collection of garbage and a busy machine can take seconds.
    least_seconds, most_seconds = 5, 120
    if not least_seconds <= config.timeout <= most_seconds:
        yield error(
            "timeouts",
            f"SERVER_TIMEOUT_SECONDS is {config.timeout}.",
            _where(root, "timeout"),
            "0 never kills a stalled worker, a few seconds kill healthy ones.",
            f"Write SERVER_TIMEOUT_SECONDS between {least_seconds} and {most_seconds}.",
        )


def _check_inert(root: Path, config: Config) -> Iterator[Finding]:
    for name in _INERT:
        setting = config.settings[name]
        if setting.get() != setting.default:
            yield warning(
                "gunicorn",
                f"{name} has no effect.",
                _where(root, name),
                "The Uvicorn worker does not read it.",
                "Leave it out; server/settings.py has what works.",
            )


def _check_recycling(root: Path, config: Config) -> Iterator[Finding]:
    if config.max_requests and not config.max_requests_jitter:
        yield warning(
            "gunicorn",
            "max_requests without jitter.",
            _where(root, "max_requests"),
            "All workers leave at the same time.",
            "Leave SERVER_MAX_REQUESTS_JITTER out: a tenth of it is the default.",
        )


def _check_reload(root: Path, config: Config, *, in_production: bool) -> Iterator[Finding]:
    if config.reload and in_production:
        what = "gunicorn reloads when files change."
        why = "A deployment half copied is served."
        yield error("production", what, _where(root, "reload"), why, "Leave reload out.")


def _where(root: Path, name: str) -> str:
    text = (root / FILE).read_text(encoding="utf-8")
    match = re.search(rf"^{name}\s*=", text, re.MULTILINE)
    return f"{FILE}:{text.count(chr(10), 0, match.start()) + 1}" if match else f"{FILE} ({name})"
