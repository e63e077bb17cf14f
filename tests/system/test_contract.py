"""The whole HTTP contract through nginx and two gunicorn workers, and again behind PgBouncer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from tests.conftest import Bake
from tests.servers import wait_until
from tests.system.load import Target
from tests.system.pgbouncer import serve_behind_pgbouncer
from tests.system.processes import reload_all
from tests.system.stack import Stack, serve
from tests.system.trial import load

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module", params=["direct", "pgbouncer"])
def stack(
    request: pytest.FixtureRequest,
    bake_once: Bake,
    uv: str,
    require: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    require("nginx")
    project = bake_once("contract")
    if request.param == "direct":
        running = serve(project, uv)
    else:
        folder = tmp_path_factory.mktemp("pgbouncer")
        running = serve_behind_pgbouncer(project, uv, require("pgbouncer"), folder)
    with running as stack:
        yield stack


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stack.url) as client:
        yield client


@pytest.fixture(scope="module")
def pair(client: httpx2.Client) -> dict[str, str]:
    return sign_up(client)


@pytest.fixture
def headers(pair: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


def sign_up(client: httpx2.Client) -> dict[str, str]:
    email = f"{uuid4().hex}@example.com"
    created = client.post("/api/v1/users", json={"email": email, "password": PASSWORD})
    assert created.status_code == 201
    form = {"username": email, "password": PASSWORD}
    answer = client.post("/api/v1/auth/token", data=form)
    assert answer.status_code == 200
    return {"email": email, **answer.json()}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/version", "/docs", "/openapi.json"])
def test_public_page_is_ok(client: httpx2.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert len(response.headers.get_list("x-request-id")) == 1
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == response.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/metrics", 404),
        ("GET", "/api/v1/users/me", 401),
        ("POST", "/api/v1/items", 401),
        ("DELETE", "/livez", 405),
    ],
)
def test_refusal_is_a_problem(client: httpx2.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_registration_conflicts_when_the_email_is_known(
    client: httpx2.Client, pair: dict[str, str]
) -> None:
    body = {"email": pair["email"], "password": PASSWORD}
    assert client.post("/api/v1/users", json=body).status_code == 409


def test_login_is_refused_when_the_password_is_wrong(
    client: httpx2.Client, pair: dict[str, str]
) -> None:
    form = {"username": pair["email"], "password": "wrong"}
    assert client.post("/api/v1/auth/token", data=form).status_code == 401


def test_profile_changes(client: httpx2.Client, headers: dict[str, str]) -> None:
    client.patch("/api/v1/users/me", json={"full_name": "Ada"}, headers=headers)
    assert client.get("/api/v1/users/me", headers=headers).json()["full_name"] == "Ada"


def test_item_lives_from_creation_to_deletion(
    client: httpx2.Client, headers: dict[str, str]
) -> None:
    created = client.post("/api/v1/items", json={"title": "one"}, headers=headers)
    assert created.status_code == 201
    where = created.headers["location"]
    assert client.get(where, headers=headers).json()["title"] == "one"
    changed = client.patch(where, json={"title": "two"}, headers=headers)
    assert changed.json()["title"] == "two"
    listed = client.get("/api/v1/items", headers=headers).json()
    assert [item["title"] for item in listed["items"]] == ["two"]
    assert client.delete(where, headers=headers).status_code == 204
    assert client.get(where, headers=headers).status_code == 404


def test_pages_follow_each_other(client: httpx2.Client) -> None:
    headers = {"Authorization": f"Bearer {sign_up(client)['access_token']}"}
    for number in range(3):
        client.post("/api/v1/items", json={"title": f"item {number}"}, headers=headers)
    first = client.get("/api/v1/items", params={"limit": 2}, headers=headers).json()
    query = {"limit": 2, "cursor": first["next_cursor"]}
    second = client.get("/api/v1/items", params=query, headers=headers).json()
    titles = [item["title"] for item in first["items"] + second["items"]]
    assert titles == ["item 2", "item 1", "item 0"]


def test_body_is_refused_when_it_is_too_large(client: httpx2.Client) -> None:
    response = client.post("/api/v1/users", content=b"x" * 1_100_000)
    assert (response.status_code, response.json()["status"]) == (413, 413)


def test_session_ends_with_logout(client: httpx2.Client) -> None:
    tokens = sign_up(client)
    body = {"refresh_token": tokens["refresh_token"]}
    new = client.post("/api/v1/auth/refresh", json=body).json()
    assert client.post("/api/v1/auth/refresh", json=body).status_code == 401
    body = {"refresh_token": new["refresh_token"]}
    assert client.post("/api/v1/auth/logout", json=body).status_code == 204
    headers = {"Authorization": f"Bearer {new['access_token']}"}
    assert client.get("/api/v1/users/me", headers=headers).status_code == 401


def test_password_change_and_logout_everywhere_end_sessions(client: httpx2.Client) -> None:
    tokens = sign_up(client)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    response = client.put("/api/v1/users/me/password", json=body, headers=headers)
    assert response.status_code == 204
    assert client.post("/api/v1/auth/logout-all", headers=headers).status_code == 204
    assert client.get("/api/v1/users/me", headers=headers).status_code == 401


def test_forged_request_id_and_address_do_not_pass_nginx(
    stack: Stack, client: httpx2.Client
) -> None:
    forged = {"X-Request-ID": "f" * 32, "X-Forwarded-For": "203.0.113.9"}
    response = client.get("/version", headers=forged)
    request_id = response.headers["x-request-id"]
    assert request_id != forged["X-Request-ID"]
    line = wait_for_line(stack.log, request_id)
    assert "203.0.113.9" not in line
    assert "127.0.0.1" in line


def wait_for_line(log: Path, wanted: str) -> str:
    """The line is written after the answer is sent."""
    wait_until(lambda: wanted in log.read_text(), f"a line with {wanted} in {log}")
    return next(line for line in log.read_text().splitlines() if wanted in line)


@pytest.mark.parametrize("stack", ["pgbouncer"], indirect=True)
def test_reload_loses_no_request_when_pgbouncer_shares_connections(
    stack: Stack, pair: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    target = Target(stack.http_port, pair["access_token"])
    with load(target) as outcome:
        reload_all(stack)
    record_property("reload behind PgBouncer", str(outcome))
    assert not outcome.failures
