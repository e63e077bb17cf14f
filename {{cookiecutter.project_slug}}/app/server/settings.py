"""Every number of gunicorn and uvicorn with its reason; the rest comes from `app.settings`.

Next hop: gunicorn.conf.py, which hands them to gunicorn, and `app.server.worker`.
"""

import logging
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator

from app.settings import SECRETS_DIR, Settings, describe

log = logging.getLogger(__name__)


class ServerSettings(Settings):
    # Loopback: nginx is the only way in. Default of gunicorn: 127.0.0.1, or 0.0.0.0 if PORT is set.
    app_host: str = "127.0.0.1"
    # None: planned by app/server/capacity.py. Default of gunicorn: 1.
    web_concurrency: int | None = Field(default=None, ge=1)
    # Whose X-Forwarded-* is believed: addresses or networks, with commas. "*" would let every
    # client choose its own address. Default of both: 127.0.0.1,::1.
    # https://uvicorn.dev/settings/#http
    forwarded_allow_ips: str = "127.0.0.1"
    server_proxy_headers: bool = True

    # How long a load balancer in front of nginx waits, and keeps idle connections: only read by
    # `manage doctor`. 60 is what most have, AWS and nginx among them.
    load_balancer_seconds: float = Field(default=60, gt=0)
    # Connections the kernel holds while all workers are busy or being replaced; cut to
    # net.core.somaxconn (4096 since Linux 5.4). Default of both: 2048.
    server_backlog: int = Field(default=2048, ge=64)
    # Longer than nginx keeps an idle connection, even at nginx's own default of 60 s, so that
    # nginx closes first and no POST meets a closing socket. Defaults: gunicorn 2, uvicorn 5.
    # https://gunicorn.org/reference/settings/#keepalive
    server_keepalive_seconds: int = Field(default=75, ge=1)
    # An event loop that stands still this long is killed; an await may take longer.
    # Default of gunicorn: 30. https://gunicorn.org/reference/settings/#timeout
    server_stall_seconds: int = Field(default=30, ge=2)
    # Lame duck 3 s + request deadline 25 s + 2 s for the lifespan; the container waits 40 s.
    # Defaults: gunicorn 30, uvicorn none. https://gunicorn.org/reference/settings/#graceful_timeout
    server_graceful_seconds: int = Field(default=30, ge=3)
    # Longer than nginx keeps an idle connection (2.5 s): the worker that leaves closes none on
    # which a POST may be under way. Neither gunicorn nor uvicorn has it.
    server_lame_duck_seconds: float = Field(default=3, ge=0)
    # 0: never. It hides a leak, and every recycling costs a start; use it for a measured leak.
    # Default of both: never.
    server_max_requests: int = Field(default=0, ge=0)
    # None: a tenth of it, so that workers do not leave together. Default of both: 0.
    server_max_requests_jitter: int | None = Field(default=None, ge=0)

    # uvloop and httptools where installed. Default of uvicorn: the same.
    server_loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    server_http: Literal["auto", "h11", "httptools"] = "auto"
    # "auto" would take a broken lifespan for a missing one. Default of uvicorn: auto.
    server_lifespan: Literal["on", "auto", "off"] = "on"
    # None: the app limits what is expensive and answers with a problem document; this one counts
    # idle connections too and answers in plain text. Default of uvicorn: none.
    server_limit_concurrency: int | None = Field(default=None, ge=1)
    # Only for SERVER_HTTP=h11; nginx refuses larger heads first. Default of uvicorn: 64 KiB.
    server_h11_max_incomplete_event_bytes: int | None = Field(default=None, ge=1024)
    # nginx writes its own. Default of uvicorn: on.
    server_server_header: bool = False
    server_date_header: bool = True
    # The middleware writes a line with duration, route and request id. Default of uvicorn: on.
    server_access_log: bool = False

    ws_protocol: Literal["auto", "websockets", "websockets-sansio", "wsproto", "none"] = "auto"
    # As large as the largest body. Default of uvicorn: 16 MiB.
    ws_max_size_bytes: int = Field(default=1_048_576, ge=1)
    # Frames read ahead for an app that is slow to receive; only WS_PROTOCOL=websockets has a
    # number for it. Default of uvicorn: 32.
    ws_max_queue: int | None = Field(default=None, ge=1)
    # Below nginx's read timeout for WebSockets, which a ping resets. Default of uvicorn: 20 and 20.
    ws_ping_interval_seconds: float = Field(default=20, gt=0)
    ws_ping_timeout_seconds: float = Field(default=20, gt=0)
    ws_per_message_deflate: bool = True

    # For TLS between nginx and gunicorn on different machines. Default of both: none.
    server_ssl_keyfile: Path | None = None
    server_ssl_certfile: Path | None = None
    server_ssl_ca_certs: Path | None = None
    server_ssl_keyfile_password: SecretStr | None = None
    server_ssl_ciphers: str | None = None
    # 0 none, 1 optional, 2 required: the certificate of nginx.
    server_ssl_cert_reqs: Literal[0, 1, 2] = 0

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> Self:
        if self.server_h11_max_incomplete_event_bytes and self.server_http != "h11":
            raise ValueError("SERVER_H11_MAX_INCOMPLETE_EVENT_BYTES needs SERVER_HTTP=h11")
        if self.ws_max_queue and self.ws_protocol != "websockets":
            raise ValueError("WS_MAX_QUEUE needs WS_PROTOCOL=websockets")
        return self

    @property
    def ssl_keyfile_password_text(self) -> str | None:
        secret = self.server_ssl_keyfile_password
        return secret.get_secret_value() if secret else None

    @property
    def max_requests_jitter(self) -> int:
        if self.server_max_requests_jitter is None:
            return self.server_max_requests // 10
        return self.server_max_requests_jitter


def uvicorn_options(settings: ServerSettings) -> dict[str, object]:
    """What gunicorn has no setting for; `uvicorn_worker` maps the rest."""
    return {
        "loop": settings.server_loop,
        "http": settings.server_http,
        "lifespan": settings.server_lifespan,
        "proxy_headers": settings.server_proxy_headers,
        "server_header": settings.server_server_header,
        "date_header": settings.server_date_header,
        "access_log": settings.server_access_log,
        "limit_concurrency": settings.server_limit_concurrency,
        "h11_max_incomplete_event_size": settings.server_h11_max_incomplete_event_bytes,
        "ssl_keyfile": settings.server_ssl_keyfile,
        "ssl_certfile": settings.server_ssl_certfile,
        "ssl_keyfile_password": settings.ssl_keyfile_password_text,
        "ssl_ca_certs": settings.server_ssl_ca_certs,
        "ssl_cert_reqs": settings.server_ssl_cert_reqs,
        "ssl_ciphers": settings.server_ssl_ciphers,
        "ws": settings.ws_protocol,
        "ws_max_size": settings.ws_max_size_bytes,
        "ws_max_queue": settings.ws_max_queue or 32,
        "ws_ping_interval": settings.ws_ping_interval_seconds,
        "ws_ping_timeout": settings.ws_ping_timeout_seconds,
        "ws_per_message_deflate": settings.ws_per_message_deflate,
        # The worker beats by itself, once a second and by a clock that cannot be set back.
        "callback_notify": None,
    }


def load_server_settings(fallback: ServerSettings | None = None) -> ServerSettings:
    """The fallback is for a reload: gunicorn's master must not die of a typing error in `.env`."""
    try:
        secrets_dir = SECRETS_DIR if SECRETS_DIR.is_dir() else None
        return ServerSettings(_secrets_dir=secrets_dir)
    except ValidationError as error:
        sentence = f"The settings are not valid.\n{describe(error)}"
        if fallback is None:
            raise SystemExit(sentence) from error
        log.error("%s\nThe master keeps the settings it has.", sentence)
        return fallback
