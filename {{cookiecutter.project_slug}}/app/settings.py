"""Every setting of the service: environment, then `.env`, then files in /run/secrets.

Nothing reads the environment elsewhere.
"""

import hmac
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from fastapi import Depends
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    Json,
    NameEmail,
    PostgresDsn,
    SecretStr,
    UrlConstraints,
    model_validator,
)
from pydantic_settings import NoDecode
from starlette.requests import HTTPConnection

from app.keys import HMAC_KEY_BYTES_MIN, SigningKey, is_weak, refuse_twins
from server.settings import LogSettings

# Of /readyz. Probes usually give up after 1 to 2 s; an answer that comes later is not heard.
READY_WITHIN_SECONDS = 1.0

DatabaseUrl = Annotated[
    PostgresDsn,
    UrlConstraints(allowed_schemes=["postgres", "postgresql", "postgresql+asyncpg"]),
]
# As browsers send it: lower case, no path, no default port.
_ORIGIN = re.compile(
    r"(?!https:.*:443$|http:.*:80$)https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)


def _refuse_inexact(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("write exact origins, such as https://app.example.com; * is none")
    return origin


def _split_at_commas(value: object) -> object:
    """A JSON list is possible too."""
    if not isinstance(value, str):
        return value
    return [part.strip(' "') for part in value.strip("[] ").split(",")]


def _about(key: str) -> str:
    text = Path(__file__).with_name("about.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)[key])


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_refuse_inexact)], ...],
    BeforeValidator(_split_at_commas),
    # pydantic-settings would read nothing but JSON.
    NoDecode,
]
KeyRing = Annotated[tuple[SigningKey, ...], Field(min_length=1), AfterValidator(refuse_twins)]


class Settings(LogSettings):
    """Read once per process; invalid values stop the process with one line each."""

    environment: Literal["development", "test", "production"] = "development"
    service_name: str = Field(default="service", min_length=1, max_length=100)
    # The name and the sentence that people read; app/about.toml has them.
    service_title: str = Field(default_factory=lambda: _about("title"), min_length=1)
    service_description: str = Field(default_factory=lambda: _about("description"))
    service_version: str = "0.1.0"
    git_revision: str | None = None

    # Secrets
    secret_key: SecretStr = Field(min_length=HMAC_KEY_BYTES_MIN)
    # None: SECRET_KEY signs the access tokens. `manage keys rotate` writes a ring.
    jwt_keys: Json[KeyRing] | None = None

    # Database
    # With ?sslmode=verify-full where the way there is not private; docs/security.md has it.
    database_url: DatabaseUrl
    # The role that owns the tables, for `manage migrate` alone; the one above then needs no right
    # to change them (deploy/database). None: DATABASE_URL. Never through PgBouncer.
    database_owner_url: DatabaseUrl | None = None
    # A PgBouncer in transaction mode stands before it: statements are prepared anew for each use,
    # and the timeouts below must be set there, on its connections. Migrations go around it.
    database_pgbouncer: bool = False
    # Where workers hear of new events, with LISTEN: PgBouncer in transaction mode takes it and
    # delivers nothing. None: DATABASE_URL, or behind PgBouncer a look every 5 s.
    database_listen_url: DatabaseUrl | None = None
    # None: 5. gunicorn.conf.py plans it for its workers. Default of SQLAlchemy: 5, overflow 10.
    database_pool_size: int | None = Field(default=None, ge=1, le=100)
    # A request that waits longer gets a 503 and may try again. Default of SQLAlchemy: 30.
    database_pool_timeout_seconds: float = Field(default=3, gt=0, le=60)
    # Half-open connections are noticed late otherwise. Default of asyncpg: 60.
    database_connect_timeout_seconds: float = Field(default=5, gt=0, le=60)
    # Connections behind firewalls die silently after about an hour. Default: never.
    database_pool_recycle_seconds: int = Field(default=1800, ge=60)
    # A host from which nothing comes back for this long is gone: both sides close the connection
    # (TCP keepalives, TCP_USER_TIMEOUT). Default of Linux: after 2 hours when idle, after 15
    # minutes of sending again.
    database_peer_timeout_seconds: int = Field(default=12, ge=4)
    # A database that hangs while its host lives cannot enforce a timeout of its own. Default of
    # asyncpg: none. https://magicstack.github.io/asyncpg/current/api/index.html
    database_command_timeout_seconds: float = Field(default=20, gt=0)
    # Ends before the request deadline does. Default of PostgreSQL: none.
    statement_timeout_seconds: float = Field(default=15, gt=0)
    # A lock that is not free by then is somebody's migration. Default of PostgreSQL: none.
    lock_timeout_seconds: float = Field(default=5, gt=0)
    # Longer than any request may live. Default of PostgreSQL: none.
    idle_in_transaction_session_timeout_seconds: float = Field(default=30, gt=0)

    # HTTP
    # Empty, or as in a browser: /shop. No slash at its end.
    root_path: str = Field(default="", pattern=r"^(/[^/?#\s]+)*$")
    # Longer than a statement may take, shorter than nginx waits (30 s). Default of the stack: none.
    request_deadline_seconds: float = Field(default=25, gt=0)
    # The same number stands in deploy/nginx; nginx refuses first. Default of both: none, 1 MiB.
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    # Whose pages may call the API from a browser. Default of browsers: only pages of this host.
    cors_origins: Origins = ()
    # None: on everywhere but in production.
    docs_enabled: bool | None = None

    # Accounts
    # The service's own name, so that two services with one key do not take each other's tokens.
    token_issuer: str = Field(default_factory=lambda data: str(data["service_name"]), min_length=1)
    token_audience: str = Field(
        default_factory=lambda data: str(data["service_name"]), min_length=1
    )
    access_token_seconds: int = Field(default=900, ge=30, le=86_400)
    refresh_token_seconds: int = Field(default=30 * 86_400, ge=3600)
    # None: a session that is not refreshed lives as long as any other.
    refresh_idle_seconds: int | None = Field(default=None, ge=60)
    # Two refreshes at once (a page with two tabs) are no theft. 0 turns the grace off.
    refresh_reuse_grace_seconds: int = Field(default=10, ge=0, le=60)
    # argon2id, RFC 9106 second recommended option: 64 MiB, 3 passes, 4 lanes.
    password_memory_cost_kib: int = Field(default=65_536, ge=8)
    password_time_cost: int = Field(default=3, ge=1)
    password_parallelism: int = Field(default=4, ge=1)
    # 64 MiB each; more at once than cores only makes all of them slower.
    password_concurrency: int = Field(default=2, ge=1)
    # Waiting logins beyond this get a 503: at 0.1 s each the last one waits about 1 s.
    password_queue_max: int = Field(default=20, ge=1)

    # Attempts before the delays begin: 1 s, 2 s, 4 s ... They count before the password is checked
    # and are taken back when it is right, so this is also how many may be under way at once.
    login_attempts_per_account: int = Field(default=20, ge=2)
    # More, for an office behind one address.
    login_attempts_per_address: int = Field(default=200, ge=2)
    # The right password waits so long at most; docs/guessing.md says how many wrong ones pass.
    login_delay_seconds_max: float = Field(default=900, ge=1)
    # A guesser who lets an hour pass instead of waiting would have 600 guesses a day.
    login_forget_seconds: int = Field(default=86_400, ge=60)

    # Sign-up
    # False: only `manage create-admin` and the admin app make users; POST /users answers 403.
    sign_up_open: bool = True
    # Where the links in emails lead: the pages of your own that ask for the token.
    public_url: HttpUrl = HttpUrl("http://127.0.0.1:8080")
    email_verification_seconds: int = Field(default=2 * 86_400, ge=60)
    # Short: who reads the mailbox later must not find a key to the account.
    password_reset_seconds: int = Field(default=1800, ge=60)

    # Mail
    # None: development writes mail to the log; elsewhere it is dropped with a warning.
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    # RFC 8314 prefers tls (port 465) to starttls (587); none is for a relay on this machine.
    smtp_security: Literal["tls", "starttls", "none"] = "starttls"
    smtp_timeout_seconds: float = Field(default=10, gt=0, le=60)
    mail_from: NameEmail = Field(
        default_factory=lambda data: NameEmail(
            data["service_title"], "service@localhost.localdomain"
        )
    )

    # Events
    # Each takes about 25 KiB of the worker and an open file of it and of nginx.
    streams_per_worker_max: int = Field(default=1000, ge=1)
    # In each worker; a browser opens 6 connections to one host at most.
    streams_per_user_max: int = Field(default=10, ge=1)
    # Who comes back later reads everything anew.
    events_kept_seconds: int = Field(default=7 * 86_400, ge=60)

    # Jobs
    # How long a job waits for its turn at most, and a query of each process. Default of
    # procrastinate: 5, and NOTIFY, which would cost every commit that enqueues.
    jobs_poll_seconds: float = Field(default=1, gt=0, le=60)
    # What a job may still take when its process is told to end; then it is cancelled, and runs
    # again later. Less than gunicorn has (30 s): one stop timeout suits both. Default: no limit.
    jobs_graceful_seconds: float = Field(default=25, gt=0)
    # A process that has not been heard of for so long is lost: others run its jobs again. Three
    # times the interval of its heartbeats. Default of procrastinate: 30.
    jobs_silent_seconds: float = Field(default=30, ge=0.3)
    # How long those are kept that have failed or were cancelled; the others go at once.
    jobs_kept_seconds: int = Field(default=30 * 86_400, ge=60)

    # Traces and error reports
    # Either turns traces on; docs/traces.md has the other variables, which OpenTelemetry reads.
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_exporter_otlp_traces_endpoint: HttpUrl | None = None
    otel_sdk_disabled: bool = False
    # Exceptions go there: Sentry, or what speaks its protocol.
    sentry_dsn: SecretStr | None = None

    # Admin
    admin_enabled: bool = True
    admin_session_seconds: int = Field(default=3600, ge=60)
    # A second factor for everybody who logs in to the admin app. None: in production alone.
    admin_totp_required: bool | None = None

    @model_validator(mode="after")
    def _refuse_impossible_hashing(self) -> Self:
        if self.password_memory_cost_kib < 8 * self.password_parallelism:
            raise ValueError("PASSWORD_MEMORY_COST_KIB: argon2 needs 8 KiB for each lane at least")
        return self

    @model_validator(mode="after")
    def _refuse_weak_secrets_in_production(self) -> Self:
        secret = self.secret_key.get_secret_value()
        if self.environment != "production":
            return self
        if is_weak(secret):
            raise ValueError("SECRET_KEY is a placeholder: set 48 random bytes in production")
        for key in self.jwt_keys or ():
            # The others are made by a program, and their PEM has few different characters at times.
            if key.alg == "HS256" and is_weak(key.key.get_secret_value()):
                raise ValueError(f"JWT_KEYS: the key {key.kid} is a placeholder, not random")
        return self

    @model_validator(mode="after")
    def _refuse_what_is_not_installed(self) -> Self:
        wanted = (
            (self.traces_are_on, "OTEL_EXPORTER_OTLP_ENDPOINT", "opentelemetry.sdk"),
            (self.sentry_dsn is not None, "SENTRY_DSN", "sentry_sdk"),
        )
        for is_on, name, package in wanted:
            if is_on and find_spec(package) is None:
                raise ValueError(f"{name} needs packages: uv sync --group observability")
        return self

    @property
    def token_key_ring(self) -> tuple[SigningKey, ...]:
        return self.jwt_keys or (SigningKey(kid="secret-key", key=self.secret_key),)

    @property
    def totp_is_required(self) -> bool:
        is_production = self.environment == "production"
        return is_production if self.admin_totp_required is None else self.admin_totp_required

    def keyed_hash(self, text: bytes) -> bytes:
        """With SECRET_KEY; what begins `text` keeps one purpose apart from the others."""
        return hmac.digest(self.secret_key.get_secret_value().encode(), text, "sha256")

    @property
    def traces_are_on(self) -> bool:
        endpoint = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return endpoint is not None and not self.otel_sdk_disabled

    @property
    def docs_are_on(self) -> bool:
        is_open = self.environment != "production"
        return is_open if self.docs_enabled is None else self.docs_enabled


async def get_settings(connection: HTTPConnection) -> Settings:
    return cast("Settings", connection.state.settings)


SettingsDep = Annotated[Settings, Depends(get_settings)]
