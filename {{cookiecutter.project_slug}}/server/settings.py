"""Settings of the server, each number with its reason; gunicorn.conf.py hands them to gunicorn."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

# Where Docker and Kubernetes mount secrets: one file a setting, named like it.
SECRETS_DIR = Path("/run/secrets")


class EnvironmentSettings(BaseSettings):
    """Read from the environment, then from `.env`, then from files in /run/secrets."""

    model_config = SettingsConfigDict(
        # The launcher of the development database writes the first file; later files win.
        env_file=(".local/database.env", ".env"),
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # Errors name the setting, never its value.
        hide_input_in_errors=True,
    )

    @classmethod
    def load(cls) -> Self:
        """The settings, or the end of the process with one line for each that is wrong."""
        try:
            return cls(_secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None)
        except ValidationError as error:
            raise SystemExit(f"The settings are not valid.\n{describe(error)}") from error


def read_variables(names: Iterable[str]) -> dict[str, str]:
    """Those of a library that are set and not empty, from wherever our own settings come."""
    fields: dict[str, tuple[object, None]] = {name.lower(): (str | None, None) for name in names}
    # pydantic's overloads know no computed fields.
    model = create_model("Variables", __base__=EnvironmentSettings, **fields)  # type: ignore[call-overload]
    return dict(model.load().model_dump(exclude_none=True))


class LogSettings(EnvironmentSettings):
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"


class ServerSettings(LogSettings):
    # Loopback: nginx is the only way in. Default of gunicorn: 127.0.0.1, or 0.0.0.0 if PORT is set.
    app_host: str = "127.0.0.1"
    app_port: int = Field(default=8000, ge=1, le=65535)
    # Whose X-Forwarded-* is believed: addresses or networks, with commas. "*" would let every
    # client choose its own address. Default of both: 127.0.0.1,::1.
    # https://uvicorn.dev/settings/#http
    forwarded_allow_ips: str = "127.0.0.1"

    # None: planned by server/capacity.py. Default of gunicorn: 1.
    web_concurrency: int | None = Field(default=None, ge=1)
    # None: planned too, at most 5. Default of SQLAlchemy: 5, and 10 of overflow.
    database_pool_size: int | None = Field(default=None, ge=1, le=100)
    # What all workers of all replicas may open together, reload included. PostgreSQL's default of
    # 100 less the 3 it keeps for superusers, 7 for migrations, `manage`, backups, monitoring and 10
    # for the jobs.
    database_connection_budget: int = Field(default=80, ge=1)
    # How many jobs the process of the jobs runs at once, each with a connection; one more is for
    # the queue itself, and for a moment there are two processes. Default of procrastinate: 1.
    jobs_concurrency: int = Field(default=4, ge=1, le=100)
    # How many of these services share the database; each of them gets its part of the budget.
    replicas: int = Field(default=1, ge=1)
    # A warm worker was measured at 78 MiB (PSS); this leaves a quarter for your own code.
    worker_memory_mib: int = Field(default=100, ge=1)
    # What one worker takes for moments on top of it: two password hashes of 64 MiB.
    worker_peak_memory_mib: int = Field(default=128, ge=0)

    # Connections the kernel holds while all workers are busy or being replaced; cut to
    # net.core.somaxconn (4096 since Linux 5.4). Default of both: 2048.
    server_backlog: int = Field(default=2048, ge=64)
    # Longer than nginx keeps an idle connection, even at nginx's own default of 60 s, so that
    # nginx closes first and no POST meets a closing socket. Defaults: gunicorn 2, uvicorn 5.
    # https://gunicorn.org/reference/settings/#keepalive
    server_keepalive_seconds: int = Field(default=75, ge=1)
    # A worker whose event loop stands still this long is killed; an await may take longer.
    # Default of gunicorn: 30. https://gunicorn.org/reference/settings/#timeout
    server_timeout_seconds: int = Field(default=30, ge=2)
    # A worker that hangs while it starts ends after this, with its stack in the log: imports on a
    # slow disk, and what your lifespan does, fit in. Default of both: it hangs for ever.
    server_boot_seconds: float = Field(default=60, ge=1)
    # Lame duck 3 s + request deadline 25 s + 2 s for the lifespan; the container waits 40 s.
    # Defaults: gunicorn 30, uvicorn none. https://gunicorn.org/reference/settings/#graceful_timeout
    server_graceful_timeout_seconds: int = Field(default=30, ge=3)
    # A worker that leaves still serves this long: longer than nginx keeps an idle connection
    # (2.5 s), so it closes none on which a POST may be under way. Neither gunicorn nor uvicorn
    # has it.
    server_lame_duck_seconds: float = Field(default=3, ge=0)
    # 0: never. It hides a leak, and every recycling costs a start; use it for a measured leak.
    # Default of both: never.
    server_max_requests: int = Field(default=0, ge=0)
    # None: a tenth of it, so that workers do not leave together. Default of both: 0.
    server_max_requests_jitter: int | None = Field(default=None, ge=0)

    # /metrics has a listener of its own: it answers while all workers are stuck, and nginx has no
    # way to it. Whoever reaches it reads how busy the service is. Default of OpenTelemetry: 9464.
    metrics_host: str = "127.0.0.1"
    # 0: no metrics.
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    # Those of the jobs, whose process may share a host with gunicorn; METRICS_HOST is for both. 0:
    # no metrics.
    jobs_metrics_port: int = Field(default=9465, ge=0, le=65535)
    # None: /dev/shm, or where temporary files are. It must be memory: a slow disk blocks workers.
    metrics_dir: Path | None = None

    @property
    def max_requests_jitter(self) -> int:
        if self.server_max_requests_jitter is None:
            return self.server_max_requests // 10
        return self.server_max_requests_jitter


def describe(error: ValidationError) -> str:
    """One line for each mistake, by the name that the user knows; never the value."""
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in item["loc"]).upper()
        lines.append(f"{name}: {item['msg']}" if name else item["msg"])
    return "\n".join(lines)
