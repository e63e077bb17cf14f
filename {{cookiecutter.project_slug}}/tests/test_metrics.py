"""What the app counts, and that strangers cannot add to the list."""

from collections.abc import MutableMapping

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from app import metrics as app_metrics
from app.lifespan import State
from server import metrics as server_metrics
from tests.conftest import PASSWORD, SignedInUser

REQUESTS = server_metrics._REQUESTS


def series() -> set[tuple[str, ...]]:
    return set(REQUESTS._children)


def value(instrument: server_metrics.Counter, *labels: str) -> float:
    return float(instrument._child(labels)._value.get())


def count(*labels: str) -> float:
    return float(sum(bucket.get() for bucket in REQUESTS._child(labels)._buckets))


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/livez", "/livez", "200"),
        ("HEAD", "/livez", "/livez", "200"),
        ("DELETE", "/api/v1/auth/sessions/0", "/api/v1/auth/sessions/{session_id}", "401"),
        ("DELETE", "/api/v1/users", "/api/v1/users", "405"),
        ("GET", "/nothing", "other", "404"),
        ("GET", "/admin/users/list", "/admin/{identity}/list", "302"),
    ],
)
async def test_request_is_counted_by_the_template_of_its_route(
    client: AsyncClient, method: str, path: str, route: str, status: str
) -> None:
    before = count(method, route, status)
    await client.request(method, path)
    assert count(method, route, status) == before + 1, sorted(series())


async def test_ten_thousand_strangers_add_no_series(app: FastAPI, state: State) -> None:
    """Straight to the application: a client of the tests would take four times as long."""
    paths = ["/{}", "/api/v1/{}", "/api/v1/items/{}", "/admin/{}/list", "/docs/{}"]

    async def receive() -> MutableMapping[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(_message: MutableMapping[str, object]) -> None: ...

    async def attack(numbers: range) -> None:
        for number in numbers:
            path = paths[number % len(paths)].format(number)
            scope = {
                "type": "http", "method": f"M{number}" if number % 2 else "GET", "path": path,
                "raw_path": path.encode(), "query_string": b"a=%d" % number, "root_path": "",
                "headers": [(b"host", b"host%d.example" % number)], "scheme": "http",
                "state": {**state},
            }  # fmt: skip
            await app(scope, receive, send)

    await attack(range(20))
    before = series()
    await attack(range(20, 10_020))
    assert series() == before


def test_labels_that_are_too_many_count_as_one() -> None:
    counter = server_metrics.Counter("too_many", "", "name")
    for number in range(server_metrics.CHILDREN_MAX + 5):
        counter.add(1, str(number))
    assert value(counter, server_metrics.OTHER) == 5
    assert len(counter._children) == server_metrics.CHILDREN_MAX + 1


async def test_statements_and_their_time_are_counted_by_route(
    client: AsyncClient, user: SignedInUser
) -> None:
    route = "/api/v1/users/me"
    statements = value(app_metrics.SQL_STATEMENTS, route)
    seconds = value(app_metrics.SQL_SECONDS, route)
    busy = value(app_metrics.POOL_BUSY)
    await client.get(route, headers=user.headers)
    assert value(app_metrics.SQL_STATEMENTS, route) == statements + 1
    assert value(app_metrics.SQL_SECONDS, route) > seconds
    assert value(app_metrics.POOL_BUSY) > busy


@pytest.mark.parametrize(
    ("password", "event"), [(PASSWORD, "login_succeeded"), ("wrong password", "login_failed")]
)
async def test_logins_are_counted_by_outcome(
    client: AsyncClient, user: SignedInUser, password: str, event: str
) -> None:
    before = value(app_metrics.SECURITY_EVENTS, event, "login")
    form = {"username": user.email, "password": password}
    await client.post("/api/v1/auth/token", data=form)
    assert value(app_metrics.SECURITY_EVENTS, event, "login") == before + 1


async def test_pool_and_password_queue_are_measured_every_second(state: State) -> None:
    state["measure"]()
    assert app_metrics.POOL_SIZE._child(())._value.get() == 5
    assert app_metrics.PASSWORDS_PENDING._child(())._value.get() == 0
