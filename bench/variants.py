"""Which comparisons there are: each asks one question of two servers or more."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product

WORKERS, CONNECTIONS = 2, 64
CORES = os.cpu_count() or 1
# {python} is that of the comparisons, {service_python} that of the generated service.
UVICORN_WORKER = (
    *("{python}", "-m", "gunicorn", "--bind", "{bind}", "--worker-class"),
    *("uvicorn_worker.UvicornWorker", "--workers", str(WORKERS)),
)
WSGI = ("{python}", "-m", "gunicorn", "--bind", "{bind}", "--workers", str(WORKERS))
SERVICE = ("{service_python}", "-m", "gunicorn", "--bind", "{bind}", "app.main:create_app()")
REFERENCE = ("{service_python}", "-m", "gunicorn", "--bind", "{bind}", "reference:create_app()")


@dataclass(frozen=True)
class Variant:
    name: str
    command: tuple[str, ...]
    # Of a route; "" is the signed-in read of the service.
    path: str = "/json"
    environment: Mapping[str, str] = field(default_factory=dict)
    connections: int = CONNECTIONS
    # Each request on a new connection of the client.
    reconnects: bool = False
    # nginx in front: "" for none, or what stands in its configuration.
    nginx: str = ""
    # Between the service and PostgreSQL: "" for nothing, "pgbouncer" or "network".
    before_database: str = ""
    # Beside the load, and at this rate whatever the load does.
    logins_per_second: int = 0


@dataclass(frozen=True)
class Comparison:
    question: str
    variants: tuple[Variant, ...]
    # What the plot shows of each.
    metric: str
    packages: tuple[str, ...]
    # Names end with ", 16": the plot has that number on its axis.
    over: str = ""


def of_the_service(name: str, **settings: str) -> Variant:
    planned = {"WEB_CONCURRENCY": str(WORKERS), "DATABASE_POOL_SIZE": "2"}
    return Variant(name, SERVICE, "", planned | settings)


def pools(before_database: str = "") -> tuple[Variant, ...]:
    sizes = {f"pool, {size}": str(size) for size in (1, 2, 5, 10, 20)}
    return tuple(
        replace(of_the_service(name, DATABASE_POOL_SIZE=size), before_database=before_database)
        for name, size in sizes.items()
    )


def waits() -> tuple[Variant, ...]:
    servers = {
        "Flask, sync": ((*WSGI, "apps:flask_app()"), "/wait"),
        "Flask, 32 threads": ((*WSGI, "--threads", "32", "apps:flask_app()"), "/wait"),
        "FastAPI, def": ((*UVICORN_WORKER, "apps:fastapi_app()"), "/wait-in-a-thread"),
        "FastAPI, async def": ((*UVICORN_WORKER, "apps:fastapi_app()"), "/wait"),
    }
    return tuple(
        Variant(f"{name}, {connections}", command, path, connections=connections)
        for (name, (command, path)), connections in product(servers.items(), (1, 16, 64, 256))
    )


def frameworks() -> tuple[Variant, ...]:
    names = {"ASGI": "bare", "Starlette": "starlette", "FastAPI": "fastapi", "Litestar": "litestar"}
    return tuple(
        Variant(f"{name}, {what}", (*UVICORN_WORKER, f"apps:{app}_app()"), f"/{what}")
        for (name, app), what in product(names.items(), ("json", "read"))
    )


def servers() -> tuple[Variant, ...]:
    port, workers = "{port}", str(WORKERS)
    python, factory = ("{python}", "-m"), ("--factory", "apps:fastapi_app")
    commands = {
        "gunicorn, UvicornWorker": (*UVICORN_WORKER, "apps:fastapi_app()"),
        "uvicorn --workers": (
            *(*python, "uvicorn", "--port", port, "--workers", workers),
            *("--no-access-log", "--log-level", "warning", *factory),
        ),
        "gunicorn, its own asgi worker": (*WSGI, "--worker-class", "asgi", "apps:fastapi_app()"),
        "granian": (
            *(*python, "granian", "--interface", "asgi", "--port", port, "--workers", workers),
            *factory,
        ),
        "hypercorn": (
            *(*python, "hypercorn", "--bind", "127.0.0.1:{port}", "--workers", workers),
            *("--worker-class", "uvloop", "apps:fastapi_app()"),
        ),
    }
    return tuple(Variant(name, command) for name, command in commands.items())


def in_front() -> tuple[Variant, ...]:
    ways = {
        "direct": "",
        "nginx, TCP, kept connections": "tcp",
        "nginx, TCP, a connection each": "tcp, close",
        "nginx, unix socket, kept connections": "unix",
        "nginx, unix socket, a connection each": "unix, close",
    }
    return tuple(Variant(name, REFERENCE, "/bare", nginx=way) for name, way in ways.items())


def encrypted() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{name}, {'a connection each' if reconnects else 'kept connections'}",
            *(REFERENCE, "/bare"),
            nginx=way,
            reconnects=reconnects,
        )
        for (name, way), reconnects in product(
            {"plain": "tcp", "TLS": "tls"}.items(), (False, True)
        )
    )


def pooled() -> tuple[Variant, ...]:
    direct = of_the_service("direct")
    # The setting without the program: none of its statements is prepared by name.
    unprepared = of_the_service("direct, nothing prepared by name", DATABASE_PGBOUNCER="true")
    return direct, unprepared, replace(unprepared, name="PgBouncer", before_database="pgbouncer")


def answers() -> tuple[Variant, ...]:
    command = (*UVICORN_WORKER, "apps:fastapi_app()")
    # Ten rows of 100 bytes are 1 kB.
    return tuple(
        Variant(f"answer, {size}", command, f"/rows/{10 * size}") for size in (1, 10, 100, 1000)
    )


def beside_logins() -> tuple[Variant, ...]:
    # All of them are one account at one address.
    limits = {"LOGIN_ATTEMPTS_PER_ACCOUNT": "100000", "LOGIN_ATTEMPTS_PER_ADDRESS": "100000"}
    return tuple(
        replace(of_the_service(f"reads, {rate}", **limits), logins_per_second=rate)
        for rate in (0, 1, 2, 5)
    )


def loops() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{loop}, {parser}", REFERENCE, "/bare", {"UVICORN_LOOP": loop, "UVICORN_HTTP": parser}
        )
        for loop, parser in product(("uvloop", "asyncio"), ("httptools", "h11"))
    )


def modes_of_reading() -> tuple[Variant, ...]:
    modes = {
        "as it is": {},
        "pool_pre_ping": {"PRE_PING": "1"},
        "AUTOCOMMIT": {"AUTOCOMMIT": "1"},
        "AUTOCOMMIT, pool_pre_ping": {"PRE_PING": "1", "AUTOCOMMIT": "1"},
    }
    command = (*UVICORN_WORKER, "apps:sqlalchemy_app()")
    return tuple(Variant(name, command, "/read", mode) for name, mode in modes.items())


SERVING = ("fastapi", "gunicorn", "uvicorn", "uvloop", "httptools")
STORING = (*SERVING, "sqlalchemy", "asyncpg")
COMPARISONS = {
    "workers": Comparison(
        "How many workers? One per core, or the 2n + 1 of the manuals?",
        tuple(
            of_the_service(f"workers, {workers}", WEB_CONCURRENCY=str(workers))
            for workers in sorted({1, CORES, 2 * CORES, 2 * CORES + 1})
        ),
        "p99_full_ms",
        STORING,
        "workers",
    ),
    "pool": Comparison(
        "How many connections for each of two workers, with the database on the same machine?",
        pools(),
        "p99_full_ms",
        STORING,
        "connections of each worker",
    ),
    "remote": Comparison(
        "How many connections for each of two workers, with the database 1 ms away?",
        pools("network"),
        "p99_full_ms",
        STORING,
        "connections of each worker",
    ),
    "pgbouncer": Comparison(
        "What does PgBouncer in transaction mode cost?", pooled(), "cpu_us", STORING
    ),
    "connections": Comparison(
        "How many clients at once: what do more of them cost?",
        tuple(
            replace(of_the_service(f"clients, {count}"), connections=count)
            for count in (1, 16, 64, 256, 1024)
        ),
        "p99_full_ms",
        STORING,
        "connections",
    ),
    "logins": Comparison(
        "What do reads notice of logins beside them?",
        beside_logins(),
        "p99_ms",
        STORING,
        "logins a second",
    ),
    "waits": Comparison(
        "An endpoint that waits for 50 ms: WSGI or ASGI?",
        waits(),
        "requests_per_second",
        ("flask", *SERVING),
        "connections",
    ),
    "nginx": Comparison(
        "What does nginx cost, and how should it speak to gunicorn?",
        in_front(),
        "cpu_us",
        SERVING,
    ),
    "tls": Comparison(
        "What does TLS cost, on connections that are kept and with a handshake for each request?",
        encrypted(),
        "cpu_us",
        SERVING,
    ),
    "json": Comparison(
        "What does an answer of 1 kB to 1 MB cost?", answers(), "cpu_us", SERVING, "kB of JSON"
    ),
    "servers": Comparison(
        "The same FastAPI route on five servers, two workers each",
        servers(),
        "cpu_us",
        (*SERVING, "granian", "hypercorn"),
    ),
    "frameworks": Comparison(
        "What does each layer cost: JSON, and one read with asyncpg?",
        frameworks(),
        "cpu_us",
        (*SERVING, "starlette", "litestar", "asyncpg"),
    ),
    "loop": Comparison(
        "uvloop or asyncio, httptools or h11?", loops(), "cpu_us", (*SERVING, "h11")
    ),
    "pre-ping": Comparison(
        "What do pool_pre_ping and the transaction around a read cost?",
        modes_of_reading(),
        "cpu_us",
        STORING,
    ),
    "max-requests": Comparison(
        "What does it cost to replace workers all the time?",
        tuple(
            of_the_service(f"SERVER_MAX_REQUESTS={most}", SERVER_MAX_REQUESTS=str(most))
            for most in (0, 5000, 500)
        ),
        "p99_full_ms",
        STORING,
    ),
}


def trials() -> tuple[Variant, ...]:
    """Each with the time that it gives a stalled loop (5 s) and a drain (10 s), if it has such."""
    app, workers = "apps:trial_app()", str(WORKERS)
    module, factory = ("{python}", "-m"), ("--factory", "apps:trial_app")
    gunicorn = (*WSGI, "--timeout", "5", "--graceful-timeout", "10", "--worker-class")
    ours = {"SERVER_TIMEOUT_SECONDS": "5", "SERVER_GRACEFUL_TIMEOUT_SECONDS": "10"}
    ours |= {"SERVER_LAME_DUCK_SECONDS": "3", "WEB_CONCURRENCY": workers}
    commands = {
        "gunicorn, UvicornWorker": (*gunicorn, "uvicorn_worker.UvicornWorker", app),
        "gunicorn, its own asgi worker": (*gunicorn, "asgi", app),
        "uvicorn --workers": (
            *(*module, "uvicorn", "--port", "{port}", "--workers", workers),
            *("--timeout-worker-healthcheck", "5", "--timeout-graceful-shutdown", "10", *factory),
        ),
        "granian": (
            *(*module, "granian", "--interface", "asgi", "--port", "{port}", "--workers", workers),
            *("--respawn-failed-workers", "--workers-kill-timeout", "10", *factory),
        ),
        "hypercorn": (
            *(*module, "hypercorn", "--bind", "127.0.0.1:{port}", "--workers", workers),
            *("--worker-class", "uvloop", "--graceful-timeout", "10", app),
        ),
    }
    service = ("{service_python}", "-m", "gunicorn", f"bench.{app}")
    return (
        Variant("this service", service, environment=ours),
        *(Variant(name, command) for name, command in commands.items()),
    )


TRIALS = trials()
