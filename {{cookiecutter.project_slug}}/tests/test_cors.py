"""Pages of other origins: refused by default, let in by name, also to read errors."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient, Response

from app.lifespan import State
from app.main import create_app
from app.settings import Settings
from tests.conftest import connect
from tests.test_settings import GOOD

PAGE = "https://shop.example.com"


@pytest.fixture
def open_app(settings: Settings) -> FastAPI:
    small = {"cors_origins": (PAGE,), "max_body_bytes": 1024}
    app = create_app(settings.model_copy(update=small))

    @app.post("/fail")
    async def fail() -> None:
        raise RuntimeError

    return app


@pytest.fixture
async def open_client(open_app: FastAPI, state: State) -> AsyncIterator[AsyncClient]:
    async with connect(open_app, state) as client:
        client.headers["Origin"] = PAGE
        yield client


def ask(method: str = "PATCH", headers: str = "authorization,content-type") -> Mapping[str, str]:
    """What a browser asks before it lets a page send a request that no form could send."""
    return {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


def assert_is_readable(response: Response, status: int) -> None:
    assert response.status_code == status
    assert response.headers.get_list("access-control-allow-origin") == [PAGE]
    assert "X-Request-ID" in response.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in response.headers
    assert "Origin" in response.headers["vary"]
    assert response.headers["x-request-id"]


async def test_preflight_is_answered_when_the_origin_is_named(open_client: AsyncClient) -> None:
    response = await open_client.options("/api/v1/items", headers=ask())
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in response.headers["access-control-allow-methods"]
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://shop.example.com", "null"])
async def test_origin_is_refused_when_it_is_another(open_client: AsyncClient, origin: str) -> None:
    open_client.headers["Origin"] = origin
    answers = [await open_client.options("/livez", headers=ask("GET"))]
    answers += [await open_client.get("/livez")]
    assert all("access-control-allow-origin" not in answer.headers for answer in answers)


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda client: client.get("/livez"), 200),
        (lambda client: client.get("/api/v1/users/me"), 401),
        (lambda client: client.get("/nowhere"), 404),
        (lambda client: client.post("/api/v1/users", content=b" " * 1025), 413),
        (lambda client: client.post("/fail"), 500),
    ],
)
async def test_answer_is_readable_when_it_is_an_error(
    open_client: AsyncClient, send: Callable[[AsyncClient], Awaitable[Response]], status: int
) -> None:
    assert_is_readable(await send(open_client), status)


async def test_late_answer_is_readable(settings: Settings, state: State) -> None:
    late = {"cors_origins": (PAGE,), "request_deadline_seconds": 0.000_001}
    app = create_app(settings.model_copy(update=late))
    async with connect(app, state) as client:
        assert_is_readable(await client.get("/readyz", headers={"Origin": PAGE}), 504)


async def test_no_origin_is_let_in_by_default(client: AsyncClient) -> None:
    response = await client.get("/livez", headers={"Origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert (await client.options("/livez", headers={"Origin": PAGE, **ask()})).status_code == 405


def read(value: object) -> tuple[str, ...]:
    return Settings.model_validate(GOOD | {"cors_origins": value}).cors_origins


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example, http://localhost:5173",
        '["https://a.example", "http://localhost:5173"]',
        ["https://a.example", "http://localhost:5173"],
    ],
)
def test_origins_are_read_from_a_list_with_commas_or_json(text: object) -> None:
    assert read(text) == ("https://a.example", "http://localhost:5173")


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "shop.example.com",
        "https://shop.example.com/",
        "https://Shop.example.com",
        "https://*.example.com",
        "https://user@shop.example.com",
        "https://shop.example.com:443",
        "http://shop.example.com:80",
        "https://a.example,,https://b.example",
    ],
)
def test_start_is_refused_when_an_origin_is_not_exact(origin: str) -> None:
    with pytest.raises(ValueError, match=r"cors_origins\.\d[\s\S]*exact origins"):
        read(origin)
