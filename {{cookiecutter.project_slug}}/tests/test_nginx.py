"""deploy/nginx as it is shipped, run by a real nginx in front of a small application."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import Client
from websockets.sync.client import connect

from development import nginx
from development.ports import free_port
from tests.edge import assert_is_problem, exchange, lines_with, running_application
from tests.servers import running_nginx

pytestmark = pytest.mark.system

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
HEX_32 = re.compile("[0-9a-f]{32}")


@pytest.fixture(scope="module")
def app_port() -> Iterator[int]:
    with running_application() as port:
        yield port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx in a folder with spaces")


@pytest.fixture(scope="module")
def port(app_port: int, folder: Path) -> Iterator[int]:
    port = free_port()
    nginx.prepare(folder, port, app_port)
    # The limits of production instead of those of `make serve`.
    shutil.copy(nginx.SOURCE / "site" / "limits.conf", folder / "site")
    with running_nginx(folder, port):
        yield port


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(base_url=f"http://localhost:{port}", timeout=5) as client:
        yield client


def test_request_id_is_made_at_the_edge_when_the_client_sends_one(client: Client) -> None:
    response = client.get("/", headers={"X-Request-ID": "f" * 32})
    [request_id] = response.headers.get_list("x-request-id")
    assert HEX_32.fullmatch(request_id)
    assert request_id != "f" * 32
    assert response.json()["headers"]["x-request-id"] == request_id


def test_forwarded_headers_are_overwritten_when_the_client_forges_them(client: Client) -> None:
    forged = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
    unwanted = ("forwarded", "x-forwarded-port", "x-forwarded-prefix", "proxy", "baggage")
    traced = {"traceparent": TRACEPARENT, "tracestate": "a=b"}
    headers = dict.fromkeys(forged + unwanted, "https") | traced
    response = client.get("/", headers=headers)
    received = response.json()["headers"]
    host = client.base_url.netloc.decode()
    assert [received[name] for name in forged] == ["127.0.0.1", host, "http", "127.0.0.1"]
    assert received.keys().isdisjoint({*unwanted, *traced})


def test_host_is_the_checked_one_when_request_line_and_header_differ(port: int) -> None:
    answer = exchange(
        port, f"GET http://localhost:{port}/ HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n"
    )
    assert '"host": "localhost"' in answer


def test_path_is_normalised_when_it_has_dots(port: int) -> None:
    answer = exchange(
        port, "GET /metrics/../x%2e?a=%2e HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert '"path": "/x."' in answer


def test_body_over_the_limit_is_a_413_problem(client: Client) -> None:
    assert client.post("/", content=b"x" * 1_048_576).status_code == 200
    assert_is_problem(client.post("/", content=b"x" * 1_048_577), 413)


def test_long_header_is_a_431_problem(client: Client) -> None:
    assert_is_problem(client.get("/", headers={"X-Long": "x" * 9000}), 431)


def test_garbage_is_a_400_problem(port: int) -> None:
    answer = exchange(port, "NOT HTTP\r\n\r\n")
    assert " 400 Bad Request" in answer
    assert '"status":400' in answer


def test_unknown_host_is_refused(client: Client) -> None:
    assert_is_problem(client.get("/livez", headers={"Host": "evil.example"}), 421)


@pytest.mark.parametrize("path", ["/livez%0a", "/metrics%0D", "/a%09b", "/admin%7f", "/x%0a/admin"])
def test_control_character_in_a_path_is_a_400_problem(client: Client, path: str) -> None:
    assert_is_problem(client.get(path), 400)


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/a/../metrics"])
def test_metrics_are_hidden(port: int, path: str) -> None:
    answer = exchange(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert " 404 Not Found" in answer


@pytest.mark.parametrize(
    "path", ["/shop/admin", "/api/orders/admin/login", "/a/b/admin/user/list", "/api/shop/metrics"]
)
def test_admin_is_not_found_below_a_prefix_that_should_have_been_cut_off(
    client: Client, path: str
) -> None:
    assert_is_problem(client.get(path), 404)


@pytest.mark.parametrize("path", ["/api/v1/admins", "/administration", "/docs/admins"])
def test_path_that_only_looks_like_the_admin_app_is_passed_on(client: Client, path: str) -> None:
    assert client.get(path).json()["path"] == path


def test_login_is_a_429_problem_when_there_are_too_many(client: Client) -> None:
    # Below ROOT_PATH it is the same route.
    paths = ["/api/v1/auth/token", "/shop/api/v1/auth/token"] * 7
    responses = [client.post(path) for path in paths]
    assert [response.status_code for response in responses[:10]] == [200] * 10
    assert_is_problem(responses[-1], 429)
    assert responses[-1].headers["retry-after"] == "5"
    # Without it, a client of OAuth 2 takes the answer for a token.
    assert responses[-1].json()["error"] == "temporarily_unavailable"


@pytest.mark.parametrize("path", ["/api/v1/items", "/shop/api/v1/items"])
def test_own_error_of_the_api_is_readable_for_pages_of_every_origin(
    client: Client, path: str
) -> None:
    headers = {"Origin": "https://app.example.com", "X-Long": "x" * 9000}
    response = client.get(path, headers=headers)
    assert_is_problem(response, 431)
    assert response.headers.get_list("access-control-allow-origin") == ["*"]
    assert response.headers["access-control-expose-headers"] == "Retry-After, X-Request-ID"


@pytest.mark.parametrize("path", ["/metrics", "/metrics?/api/", "/api/v1/items"])
def test_nginx_adds_no_origin_when_it_is_not_the_api_or_the_app_answers(
    client: Client, path: str
) -> None:
    response = client.get(path, headers={"Origin": "https://app.example.com"})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_preflight_reaches_the_app(client: Client) -> None:
    assert client.options("/api/v1/items").json()["path"] == "/api/v1/items"


def test_probes_are_never_limited(client: Client) -> None:
    assert {client.get("/readyz").status_code for _ in range(200)} == {200}


def test_upstream_connection_is_kept_alive(client: Client) -> None:
    assert len({client.get("/").json()["peer"] for _ in range(20)}) == 1


def test_upgrade_is_not_passed_on_when_it_is_no_websocket(client: Client) -> None:
    response = client.get("/", headers={"Upgrade": "h2c", "Connection": "Upgrade"})
    assert response.json()["headers"].keys().isdisjoint({"upgrade", "connection"})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/livez", b""),
        ("POST", "/api/v1/events/ws", b""),
        ("GET", "/api/v1/events/ws", b"x"),
    ],
)
def test_websocket_upgrade_is_not_passed_on_when_it_cannot_be_one(
    client: Client, method: str, path: str, body: bytes
) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    response = client.request(method, path, headers=headers, content=body)
    assert response.json()["headers"].keys().isdisjoint({"upgrade", "connection"})


def test_websocket_echoes(port: int) -> None:
    with connect(f"ws://localhost:{port}/api/v1/events/ws", open_timeout=5) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=5) == "hello"


def test_event_arrives_while_the_stream_is_open(client: Client) -> None:
    with client.stream("GET", "/api/v1/events") as response:
        assert json.loads(next(response.iter_lines()))["path"] == "/api/v1/events"


def test_admin_is_closed_when_the_address_is_not_listed(app_port: int, tmp_path: Path) -> None:
    port = free_port()
    nginx.prepare(tmp_path, port, app_port)
    (tmp_path / "site" / "admin_access.conf").write_text("deny all;")
    with running_nginx(tmp_path, port), Client(base_url=f"http://localhost:{port}") as client:
        assert_is_problem(client.get("/admin/", headers={"X-Forwarded-For": "127.0.0.1"}), 403)


def test_access_log_is_json_without_the_query(client: Client, folder: Path) -> None:
    agent = 'a "quoted" \\ agent'
    response = client.get("/logged?token=secret", headers={"User-Agent": agent})
    [line] = lines_with(folder / "logs" / "access.log", response.headers["x-request-id"])
    logged = json.loads(line)
    assert (logged["path"], logged["client"]) == ("/logged", "127.0.0.1")
    assert (logged["status"], logged["user_agent"]) == (200, agent)


def test_missing_upstream_is_a_502_problem(tmp_path: Path) -> None:
    port = free_port()
    nginx.prepare(tmp_path, port, app_port=free_port())
    with running_nginx(tmp_path, port), Client() as client:
        assert_is_problem(client.get(f"http://localhost:{port}/"), 502)


def test_error_line_is_text_that_begins_with_its_time(tmp_path: Path) -> None:
    port = free_port()
    nginx.prepare(tmp_path, port, app_port=free_port())
    with running_nginx(tmp_path, port), Client() as client:
        client.get(f"http://localhost:{port}/")
    [line] = lines_with(tmp_path / "logs" / "error.log", "connect() failed")
    assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] ", line)
