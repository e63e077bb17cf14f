"""gunicorn.conf.py as gunicorn reads it, with what GUNICORN_CMD_ARGS changes."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

from gunicorn.config import Config

from doctor.finding import Entry, Finding, mistake
from doctor.rules import broken_rules, read_rules
from doctor.settings import AllSettings
from doctor.timeouts import Value
from server import handover
from server.capacity import plan_capacity
from server.machine import read_machine

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
_RULES = Path(__file__).with_suffix(".toml")


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
        return None, [mistake("unreadable", str(FILE), raised=type(raised).__name__)]
    return config, []


def gunicorn_timeouts(root: Path, config: Config | None) -> dict[str, list[Value]]:
    if config is None:
        return {}
    return {
        "graceful": [Value(float(config.graceful_timeout), _where(root, "graceful_timeout"))],
        "server_keepalive": [Value(float(config.keepalive), _where(root, "keepalive"))],
    }


def check_gunicorn(root: Path, config: Config, settings: AllSettings) -> list[Finding]:
    return [
        *broken_rules(
            read_rules(_RULES)["gunicorn"], lambda name: _entry(root, config, name), str(FILE)
        ),
        *_check_hooks(root, config),
        *_check_settings(root, config, settings),
        *_check_values(root, config, settings),
    ]


def _entry(root: Path, config: Config, name: str) -> Entry:
    return Entry(str(config.settings[name].get()), _where(root, name))


def _check_hooks(root: Path, config: Config) -> Iterator[Finding]:
    for name in vars(handover).keys() & config.settings.keys():
        if config.settings[name].get() is not getattr(handover, name):
            yield mistake("foreign_hook", str(FILE), name=name)


def _check_settings(root: Path, config: Config, settings: AllSettings) -> Iterator[Finding]:
    """What this file hands over; another value here is one that nobody else knows."""
    plan = plan_capacity(settings, read_machine(), settings.web_concurrency)
    for name, planned in (
        ("workers", plan.workers),
        ("bind", [f"{settings.app_host}:{settings.app_port}"]),
        ("forwarded_allow_ips", settings.forwarded_allow_ips),
    ):
        value = config.settings[name].get()
        own = ",".join(value) if isinstance(value, list) and name != "bind" else value
        if own != planned:
            yield mistake(
                "differs_from_settings", _where(root, name), name=name, value=value, planned=planned
            )


def _check_values(root: Path, config: Config, settings: AllSettings) -> Iterator[Finding]:
    for name in _INERT:
        setting = config.settings[name]
        if setting.get() != setting.default:
            yield mistake("no_effect", _where(root, name), name=name)
    if config.max_requests and not config.max_requests_jitter:
        yield mistake("no_jitter", _where(root, "max_requests"))
    if config.reload and settings.environment == "production":
        yield mistake("reload_on", _where(root, "reload"))


def _where(root: Path, name: str) -> str:
    text = (root / FILE).read_text(encoding="utf-8")
    match = re.search(rf"^{name}\s*=", text, re.MULTILINE)
    return f"{FILE}:{text.count(chr(10), 0, match.start()) + 1}" if match else f"{FILE} ({name})"
