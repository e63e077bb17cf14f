"""What attackers try, against the running service: nothing works and nothing ends in a 5xx."""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from httpx2 import AsyncClient, Response
from jose import jwt
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import Settings
from tests.accounts.test_router import log_in
from tests.accounts.test_tokens import forge
from tests.conftest import PASSWORD, empty_tables
from tests.servers import running_service

pytestmark = pytest.mark.system

SESSIONS, ME = "/api/v1/auth/sessions", "/api/v1/users/me"
SQL = "'; DROP TABLE app_user; --\" OR 1=1 \\"
LONE_SURROGATE = "\\ud800"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def service_url(settings: Settings, engine: AsyncEngine) -> Iterator[str]:
    with running_service(settings) as url:
        yield url


@pytest.fixture
async def client(service_url: str, settings: Settings) -> AsyncIterator[AsyncClient]:
    """Fails the test that gets a 5xx, or an error that is no problem document."""

    async def refuse_failures(response: Response) -> None:
        assert response.status_code < 500, f"{response.request.url}: {response.status_code}"
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"

    hooks = {"response": [refuse_failures]}
    async with AsyncClient(base_url=service_url, event_hooks=hooks, timeout=30) as client:
        yield client
    await asyncio.to_thread(empty_tables, settings)


async def sign_in(client: AsyncClient, email: str) -> dict[str, str]:
    await client.post("/api/v1/users", json={"email": email, "password": PASSWORD})
    return bearer((await log_in(client, email=email)).json()["access_token"])


@pytest.fixture
async def ada(client: AsyncClient) -> dict[str, str]:
    return await sign_in(client, "ada@example.com")


@pytest.fixture
async def eve(client: AsyncClient) -> dict[str, str]:
    return await sign_in(client, "eve@example.com")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def own_claims(headers: dict[str, str]) -> dict[str, object]:
    claims: dict[str, object] = jwt.get_unverified_claims(headers["Authorization"][7:])
    return claims


async def assert_refused(client: AsyncClient, token: str) -> None:
    response = await client.get(ME, headers=bearer(token))
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_session_of_another_user_is_not_taken_over_by_naming_it(
    client: AsyncClient, settings: Settings, ada: dict[str, str], eve: dict[str, str]
) -> None:
    claims = own_claims(eve)
    good = {"Authorization": f"Bearer {forge(settings, claims)}"}
    assert (await client.get(ME, headers=good)).status_code == 200
    nobody = "00000000-0000-0000-0000-000000000000"
    for change in ({"sid": own_claims(ada)["sid"]}, {"sid": nobody}, {"sub": nobody}):
        await assert_refused(client, forge(settings, claims | change))


async def test_refresh_token_is_no_access_token_and_the_other_way_round(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    pair = (await log_in(client)).json()
    await assert_refused(client, pair["refresh_token"])
    body = {"refresh_token": pair["access_token"]}
    assert (await client.post("/api/v1/auth/refresh", json=body)).status_code == 422


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearer,", "Bearer\t", "Bearer Bearer"])
async def test_token_is_refused_when_the_scheme_is_another(
    client: AsyncClient, ada: dict[str, str], scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} {ada['Authorization'][7:]}"}
    assert (await client.get(ME, headers=headers)).status_code == 401


async def test_headers_cannot_be_added_to_a_response(service_url: str) -> None:
    port = int(service_url.rpartition(":")[2])
    request = b"GET /livez?a=%0d%0aX-Evil:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    request += b"X-Request-ID: " + b"a" * 20 + b"\rX-Evil: 1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"x-evil" not in answer.lower()


async def test_session_cannot_be_fixed_before_login(
    client: AsyncClient, ada: dict[str, str], eve: dict[str, str]
) -> None:
    wanted = str(own_claims(eve)["sid"])
    form = {"username": "ada@example.com", "password": PASSWORD, "sid": wanted}
    headers = eve | {"Cookie": f"session={wanted}; sid={wanted}"}
    response = await client.post("/api/v1/auth/token", data=form, headers=headers)
    assert own_claims(bearer(response.json()["access_token"]))["sid"] != wanted
    assert "set-cookie" not in response.headers


async def test_fields_that_are_not_the_users_to_set_are_refused(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    user = {"email": "new@example.com", "password": PASSWORD}
    for field in (
        "role",
        "id",
        "email_verified_at",
        "disabled_at",
        "password_hash",
    ):
        forbidden = {field: True}
        answers = [
            await client.post("/api/v1/users", json=user | forbidden),
            await client.patch(ME, json=forbidden, headers=ada),
        ]
        assert [answer.status_code for answer in answers] == [422, 422]


async def test_sql_is_text_wherever_it_is_sent(client: AsyncClient, ada: dict[str, str]) -> None:
    renamed = await client.patch(ME, json={"full_name": SQL}, headers=ada)
    assert renamed.json()["full_name"] == SQL
    await client.delete(f"{SESSIONS}/{SQL}", headers=ada)
    form = {"username": SQL, "password": SQL, "scope": SQL, "grant_type": "password"}
    assert (await client.post("/api/v1/auth/token", data=form)).status_code == 401
    agent = {"User-Agent": SQL, "X-Request-ID": SQL, "X-Forwarded-For": SQL}
    form = {"username": "ada@example.com", "password": PASSWORD}
    await client.post("/api/v1/auth/token", data=form, headers=agent)
    assert SQL in {row["user_agent"] for row in (await client.get(SESSIONS, headers=ada)).json()}


BODIES = {
    "/api/v1/users": {"email": "b@example.com", "password": "abcdefgh1", "full_name": "b"},
    "/api/v1/auth/refresh": {"refresh_token": "A" * 43},
    "/api/v1/auth/logout": {"refresh_token": "A" * 43},
    "/api/v1/auth/verify-email": {"token": "A" * 43},
    "/api/v1/auth/password-reset/request": {"email": "b@example.com"},
    "/api/v1/auth/password-reset": {"token": "A" * 43, "new_password": "abcdefgh1"},
}


@pytest.mark.parametrize("character", ["\\u0000", LONE_SURROGATE, "\\udfff\\ud800"])
@pytest.mark.parametrize("path", BODIES)
async def test_nothing_fails_when_a_body_has_what_postgresql_cannot_store(
    client: AsyncClient, ada: dict[str, str], path: str, character: str
) -> None:
    for name, value in BODIES[path].items():
        for spoilt in (value[:-6] + character, character + value[6:], character):
            text_ = json.dumps(BODIES[path] | {name: "?"}).replace('"?"', f'"{spoilt}"')
            await client.post(path, content=text_.encode(), headers=ada | JSON)
        spoilt_name = json.dumps(BODIES[path]).replace(f'"{name}"', f'"{character}"')
        await client.post(path, content=spoilt_name.encode(), headers=ada | JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"\xff\xfe\x00",
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"email":' + b"9" * 5000 + b"}",
        b'{"email":1e999,"password":NaN}',
    ],
)
async def test_nothing_fails_when_a_body_is_no_json(client: AsyncClient, body: bytes) -> None:
    for path in BODIES:
        response = await client.post(path, content=body, headers=JSON)
        assert response.status_code in {400, 401, 422}


@pytest.mark.parametrize("bad", ["%00", "%ff", "%ed%a0%80", "%0d%0a", "%25", "\\", "9" * 5000])
async def test_nothing_fails_when_query_form_or_path_hold_what_is_no_text(
    client: AsyncClient, ada: dict[str, str], bad: str
) -> None:
    assert (await client.get(f"{SESSIONS}?{bad}={bad}", headers=ada)).status_code == 200
    for url in (f"{SESSIONS}/{bad}", f"/{bad}"):
        assert (await client.delete(url, headers=ada)).status_code in {400, 404, 405, 422}
    for name in ("username", "password", "scope", "grant_type"):
        fields = {"username": "ada@example.com", "password": "x"} | {name: bad}
        form = "&".join(f"{key}={value}" for key, value in fields.items())
        response = await client.post("/api/v1/auth/token", content=form, headers=FORM)
        assert response.status_code in {400, 401}


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "raw_unicode_escape", "undefined", "hex"])
async def test_nothing_fails_when_a_form_names_an_odd_charset(
    client: AsyncClient, ada: dict[str, str], charset: str
) -> None:
    part = '--X\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    fields = {"username": "ada@example.com\\ud800", "password": "\\ud800\xff"}
    form = "".join(part.format(*field) for field in fields.items()) + "--X--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=X; charset={charset}"}
    response = await client.post(
        "/api/v1/auth/token", content=form.encode("latin-1"), headers=headers
    )
    assert response.status_code in {400, 401, 422}


async def test_time_does_not_tell_whether_an_email_is_known(
    client: AsyncClient, ada: dict[str, str]
) -> None:
    ratios = [await _ratio_of_medians(client)]
    # Noise spoils a measurement; a difference that is really there is in all of them.
    while ratios[-1] >= 1.2 and len(ratios) < 3:
        ratios.append(await _ratio_of_medians(client))
    assert ratios[-1] < 1.2, ratios


async def _ratio_of_medians(client: AsyncClient) -> float:
    seconds: dict[str, list[float]] = {"ada@example.com": [], "nobody@example.com": []}
    for _ in range(60):
        for email, measured in seconds.items():
            form = {"username": email, "password": "wrong"}
            started_at = time.perf_counter()
            response = await client.post("/api/v1/auth/token", data=form)
            measured.append(time.perf_counter() - started_at)
            assert response.status_code == 401
    medians = sorted(statistics.median(measured) for measured in seconds.values())
    return medians[1] / medians[0]
