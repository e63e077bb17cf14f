"""Two services, each started once: one with the defaults, one for outages."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.system.load import Target, sign_up
from tests.system.stack import Stack, serve

Require = Callable[[str], str]


@pytest.fixture(scope="package", autouse=True)
def linux() -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("these find processes in /proc, and clients have addresses of 127.0.0.0/8")


@pytest.fixture(scope="package")
def stack(bake_once: Bake, uv: str, require: Require) -> Iterator[Stack]:
    """All logins here come from one address and use one account; nginx is what limits them."""
    require("nginx")
    attempts = {
        "LOGIN_ATTEMPTS_PER_ACCOUNT": "1000000",
        "LOGIN_ATTEMPTS_PER_ADDRESS": "1000000",
    }
    with serve(bake_once("pressure"), uv, LOG_FORMAT="json", **attempts) as running:
        yield running


@pytest.fixture(scope="package")
def target(stack: Stack) -> Target:
    return Target(stack.http_port, sign_up(stack.url))


@pytest.fixture(scope="package")
def frugal_stack(bake_once: Bake, uv: str, require: Require) -> Iterator[Stack]:
    """Two connections for each worker, which is recycled after 3000 requests."""
    require("nginx")
    settings = {
        "DATABASE_POOL_SIZE": "2",
        "SERVER_MAX_REQUESTS": "3000",
        "SERVER_MAX_REQUESTS_JITTER": "0",
    }
    with serve(bake_once("frugal"), uv, **settings) as running:
        yield running


@pytest.fixture(scope="package")
def frugal_target(frugal_stack: Stack) -> Target:
    return Target(frugal_stack.http_port, sign_up(frugal_stack.url))
