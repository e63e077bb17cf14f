"""Which comparisons there are: each asks one question of two servers or more."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    # nginx in front: "" for none, or what stands in its configuration.
    nginx: str = ""


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


def loops() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{loop}, {parser}", REFERENCE, "/bare", {"UVICORN_LOOP": loop, "UVICORN_HTTP": parser}
        )
        for loop, parser in product(("uvloop", "asyncio"), ("httptools", "h11"))
    )


def connections() -> tuple[Variant, ...]:
    modes = {
        "as it is": {},
        "pool_pre_ping": {"PRE_PING": "1"},
        "AUTOCOMMIT": {"AUTOCOMMIT": "1"},
        "AUTOCOMMIT, pool_pre_ping": {"PRE_PING": "1", "AUTOCOMMIT": "1"},
    }
    command = (*UVICORN_WORKER, "apps:sqlalchemy_app()")
    return tuple(Variant(name, command, "/read", mode) for name, mode in modes.items())


SERVING = ("fastapi", "gunicorn", "uvicorn", "uvloop", "httptools")
COMPARISONS = {
    "workers": Comparison(
        "How many workers? One per core, or the 2n + 1 of the manuals?",
        tuple(
            of_the_service(f"workers, {workers}", WEB_CONCURRENCY=str(workers))
            for workers in sorted({1, CORES, 2 * CORES, 2 * CORES + 1})
        ),
        "p99_full_ms",
        (*SERVING, "sqlalchemy", "asyncpg"),
        "workers",
    ),
    "pool": Comparison(
        "How many connections for each of two workers, with the database on the same machine?",
        tuple(
            of_the_service(f"pool, {size}", DATABASE_POOL_SIZE=str(size))
            for size in (1, 2, 5, 10, 20)
        ),
        "p99_full_ms",
        (*SERVING, "sqlalchemy", "asyncpg"),
        "connections of each worker",
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
        connections(),
        "cpu_us",
        (*SERVING, "sqlalchemy", "asyncpg"),
    ),
    "max-requests": Comparison(
        "What does it cost to replace workers all the time?",
        tuple(
            of_the_service(f"SERVER_MAX_REQUESTS={most}", SERVER_MAX_REQUESTS=str(most))
            for most in (0, 5000, 500)
        ),
        "p99_full_ms",
        (*SERVING, "sqlalchemy", "asyncpg"),
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
