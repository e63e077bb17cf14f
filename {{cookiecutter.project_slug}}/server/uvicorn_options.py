"""Uvicorn's options, set by its own variables UVICORN_*: which ones work, and our defaults."""

import click
from uvicorn.main import main as uvicorn_command

from server.settings import read_variables

# Where this service differs from Uvicorn's defaults. A variable UVICORN_* wins over each of them.
UVICORN_DEFAULTS: dict[str, object] = {
    # "auto" takes an app whose startup fails for one without a lifespan. Default: auto.
    "lifespan": "on",
    # nginx writes its own. Default: on.
    "server_header": False,
    # The middleware writes a line with duration, route and request id. Default: on.
    "access_log": False,
    # "auto" leaves a handshake that it cannot read without an answer. Default: auto.
    "ws": "server.websockets:WebSocketProtocol",
    # As large as the largest body. Default: 16 MiB.
    "ws_max_size": 1_048_576,
}
# Options that reach Uvicorn as they are; the others are gunicorn's or have no effect behind it.
UVICORN_OPTIONS = (
    "loop", "http", "h11_max_incomplete_event_size", "lifespan", "interface", "reset_contextvars",
    "ws", "ws_max_size", "ws_max_queue", "ws_ping_interval", "ws_ping_timeout",
    "ws_per_message_deflate", "access_log", "proxy_headers", "server_header", "date_header",
    "limit_concurrency", "ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_version",
    "ssl_cert_reqs", "ssl_ca_certs", "ssl_ciphers",
)  # fmt: skip
# The setting to use instead of an option that gunicorn decides.
GUNICORN_SETTINGS = {
    "host": "APP_HOST",
    "port": "APP_PORT",
    "workers": "WEB_CONCURRENCY",
    "backlog": "SERVER_BACKLOG",
    "forwarded_allow_ips": "FORWARDED_ALLOW_IPS",
    "limit_max_requests": "SERVER_MAX_REQUESTS",
    "limit_max_requests_jitter": "SERVER_MAX_REQUESTS_JITTER",
    "timeout_keep_alive": "SERVER_KEEPALIVE_SECONDS",
    "timeout_graceful_shutdown": "SERVER_GRACEFUL_TIMEOUT_SECONDS",
    "timeout_worker_healthcheck": "SERVER_TIMEOUT_SECONDS",
    "root_path": "ROOT_PATH",
    "log_level": "LOG_LEVEL",
    "log_config": "LOG_FORMAT",
}


def read_uvicorn_options() -> dict[str, object]:
    """The options as Uvicorn's own command line reads them; SystemExit with one sentence if wrong.

    https://uvicorn.dev/settings/
    """
    variables = read_variables(f"uvicorn_{option.name}" for option in uvicorn_command.params)
    given = {name.removeprefix("uvicorn_"): value for name, value in variables.items()}
    for name in given.keys() - UVICORN_OPTIONS:
        instead = f": set {GUNICORN_SETTINGS[name]}" if name in GUNICORN_SETTINGS else ""
        raise SystemExit(f"UVICORN_{name.upper()} has no effect behind gunicorn{instead}.")
    defaults = UVICORN_DEFAULTS | given
    try:
        with uvicorn_command.make_context("uvicorn", ["app"], default_map=defaults) as context:
            return {name: context.params[name] for name in UVICORN_OPTIONS}
    except click.UsageError as error:
        reason = " ".join(error.format_message().split())
        raise SystemExit(f"A variable UVICORN_* is not valid: {reason}") from error
