"""gunicorn.conf.py as gunicorn reads it, with what GUNICORN_CMD_ARGS changes."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

from gunicorn.config import Config

from doctor.finding import Entry, Finding, error, warning
from doctor.rules import Rule, among, broken_rules
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
# As in server/settings.py.
_BACKLOG_MIN = 64
RULES = (
    Rule(
        "wsgi_app",
        "None",
        lambda text: text.startswith("app."),
        "gunicorn",
        "gunicorn has nothing to serve and does not start.",
        "Write the factory of app/main.py.",
    ),
    Rule(
        "control_socket_disable",
        "False",
        among("true"),
        "gunicorn",
        "The next gunicorn of the same user takes its socket over.",
        "Write control_socket_disable = True.",
    ),
    Rule(
        "backlog",
        "2048",
        lambda text: int(text) >= _BACKLOG_MIN,
        "capacity",
        "Connections are refused while workers are replaced.",
        "Leave SERVER_BACKLOG out.",
    ),
    Rule(
        "worker_class",
        "sync",
        among("server.worker.worker"),
        "gunicorn",
        "Another worker does not drain, and knows neither the deadline nor the lame duck.",
        'Write worker_class = "server.worker.Worker".',
    ),
    Rule(
        "preload_app",
        "False",
        among("false"),
        "gunicorn",
        "A reload keeps the old code, and workers share what must not be shared.",
        "Leave preload_app out.",
    ),
    Rule(
        "reuse_port",
        "False",
        among("false"),
        "gunicorn",
        "The kernel gives connections to workers that are leaving.",
        "Leave reuse_port out.",
    ),
    Rule(
        "daemon",
        "False",
        among("false"),
        "gunicorn",
        "Whoever started it takes it for ended: systemd, Docker, Kubernetes.",
        "Leave daemon out.",
    ),
    Rule(
        "proxy_protocol",
        "off",
        among("off", "false"),
        "gunicorn",
        "nginx does not speak it: every request is refused.",
        "Leave proxy_protocol out.",
    ),
    Rule(
        "logconfig_dict",
        "{}",
        lambda text: text != "{}",
        "log",
        "Lines are no JSON and have no request id.",
        "Write logconfig_dict = logging_config(settings).",
    ),
    Rule(
        "raw_env",
        "[]",
        lambda text: "WEB_CONCURRENCY" in text and "DATABASE_POOL_SIZE" in text,
        "connection budget",
        "Workers do not know the plan and open more connections.",
        "Hand WEB_CONCURRENCY and DATABASE_POOL_SIZE to the workers.",
    ),
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


def check_gunicorn(root: Path, config: Config, settings: AllSettings) -> list[Finding]:
    return [
        *broken_rules(RULES, lambda name: _entry(root, config, name), str(FILE)),
        *_check_hooks(root, config),
        *_check_settings(root, config, settings),
        *_check_stall(root, config),
        *_check_inert(root, config),
        *_check_recycling(root, config),
        *_check_reload(root, config, settings),
    ]


def _entry(root: Path, config: Config, name: str) -> Entry:
    return Entry(str(config.settings[name].get()), _where(root, name))


def _check_hooks(root: Path, config: Config) -> Iterator[Finding]:
    for name in vars(handover).keys() & config.settings.keys():
        if config.settings[name].get() is not getattr(handover, name):
            yield error(
                "gunicorn",
                f"The hook {name} is not that of server/handover.py.",
                str(FILE),
                "Requests are lost while workers are replaced.",
                f"Import {name} from server.handover.",
            )


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
            yield error(
                "gunicorn",
                f"{name} is {value} and not {planned}, as the settings say.",
                _where(root, name),
                "nginx, the plan of connections and the probes go by the settings.",
                "Leave the line as it was; write settings.",
            )


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


def _check_reload(root: Path, config: Config, settings: AllSettings) -> Iterator[Finding]:
    if config.reload and settings.environment == "production":
        what = "gunicorn reloads when files change."
        why = "A deployment half copied is served."
        yield error("production", what, _where(root, "reload"), why, "Leave reload out.")


def _where(root: Path, name: str) -> str:
    text = (root / FILE).read_text(encoding="utf-8")
    match = re.search(rf"^{name}\s*=", text, re.MULTILINE)
    return f"{FILE}:{text.count(chr(10), 0, match.start()) + 1}" if match else f"{FILE} ({name})"
