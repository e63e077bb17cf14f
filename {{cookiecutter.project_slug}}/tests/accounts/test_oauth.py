"""OAuth 2 as others speak it: the two best known client libraries, and every error by its code."""

from collections.abc import Iterator
from typing import cast

import httpx2
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from httpx2 import AsyncClient
from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from app.lifespan import State
from app.main import create_app
from app.settings import Settings
from tests.accounts.test_router import log_in, read_me
from tests.conftest import PASSWORD, SignedInUser, connect, empty_tables
from tests.servers import running_service

ADA, GRACE = "ada@example.com", "grace@example.com"
TOKEN, REVOKE = "/api/v1/auth/token", "/api/v1/auth/revoke"
METADATA = "/.well-known/oauth-authorization-server"
ME = "/api/v1/users/me"
LOGIN = {"username": ADA, "password": PASSWORD}
# Whom the running service knows.
LOGIN_OF_GRACE = LOGIN | {"username": GRACE}
EXPIRED = {"expires_in": -10, "expires_at": 1}


@pytest.fixture(scope="module")
def service_url(settings: Settings, migrated: None) -> Iterator[str]:
    """With one user."""
    with running_service(settings) as url:
        body = {"email": GRACE, "password": PASSWORD}
        httpx2.post(f"{url}/api/v1/users", json=body).raise_for_status()
        yield url
    empty_tables(settings)


@pytest.fixture
def server(service_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without TLS, which the libraries insist on otherwise."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    return service_url


def describe(server: str) -> AuthorizationServerMetadata:
    """The addresses as the document has them, on the port of this test."""
    document = httpx2.get(get_well_known_url(server, external=True)).json()
    here = {
        name: value.replace("http://127.0.0.1:8080", server) if isinstance(value, str) else value
        for name, value in document.items()
    }
    return AuthorizationServerMetadata(here)


@pytest.mark.system
def test_authlib_logs_in_refreshes_and_revokes_with_what_it_discovers(server: str) -> None:
    found = describe(server)
    with AuthlibSession("a client", token_endpoint=found["token_endpoint"]) as session:
        first = dict(session.fetch_token(grant_type="password", **LOGIN_OF_GRACE))
        assert session.get(server + ME).json()["email"] == GRACE
        # A token that has expired is refreshed before the request, without being asked.
        session.token = first | EXPIRED
        assert session.get(server + ME).json()["email"] == GRACE
        assert session.token["refresh_token"] != first["refresh_token"]
        answer = session.revoke_token(found["revocation_endpoint"], token_type_hint="refresh_token")
        assert (answer.status_code, answer.content) == (200, b"")
        assert session.get(server + ME).status_code == 401
        with pytest.raises(OAuthError, match="invalid_grant"):
            session.refresh_token()


@pytest.mark.system
def test_authlib_raises_its_error_when_the_password_is_wrong(server: str) -> None:
    with (
        AuthlibSession("a client", "a secret", token_endpoint=server + TOKEN) as session,
        pytest.raises(OAuthError, match="invalid_grant"),
    ):
        session.fetch_token(username=GRACE, password="wrong")


@pytest.mark.system
def test_requests_oauthlib_logs_in_refreshes_and_revokes(server: str) -> None:
    client = LegacyApplicationClient("a client")
    kept: list[dict[str, object]] = []
    refreshing = {"auto_refresh_url": server + TOKEN, "token_updater": kept.append}
    with OAuth2Session(client=client, **refreshing) as session:
        first = session.fetch_token(server + TOKEN, **LOGIN_OF_GRACE, include_client_id=True)
        session.token = {**first, **EXPIRED}
        assert session.get(server + ME).json()["email"] == GRACE
        assert [token["refresh_token"] for token in kept] != [first["refresh_token"]]
        url, headers, body = client.prepare_token_revocation_request(
            server + REVOKE, str(session.token["access_token"]), "access_token"
        )
        assert session.post(url, data=body, headers=headers).status_code == 200
        assert session.get(server + ME).status_code == 401
        with pytest.raises(InvalidGrantError):
            session.refresh_token(server + TOKEN)


@pytest.mark.system
@pytest.mark.parametrize(
    "form", [LOGIN_OF_GRACE | {"password": "wrong"}, LOGIN_OF_GRACE | {"scope": "invented"}]
)
def test_requests_oauthlib_raises_its_error_when_nothing_is_granted(
    server: str, form: dict[str, str]
) -> None:
    scope = form.get("scope")
    with (
        OAuth2Session(client=LegacyApplicationClient("a client", scope=scope)) as session,
        pytest.raises(OAuth2Error) as raised,
    ):
        session.fetch_token(server + TOKEN, username=GRACE, password=form["password"])
    assert raised.value.error == ("invalid_scope" if scope else "invalid_grant")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_request"),
        ({"username": ADA}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
        (LOGIN | {"grant_type": "client_credentials"}, "unsupported_grant_type"),
        (LOGIN | {"grant_type": "PASSWORD"}, "unsupported_grant_type"),
        (LOGIN | {"scope": "invented"}, "invalid_scope"),
        (LOGIN | {"username": [ADA, ADA]}, "invalid_request"),
    ],
)
async def test_token_is_refused_with_a_code_of_the_rfc(
    client: AsyncClient, user: SignedInUser, form: dict[str, object], code: str
) -> None:
    answer = await client.post(TOKEN, data=form)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["error"]) == (400, 400, code)
    assert problem["error_description"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


async def test_every_error_of_the_token_route_has_a_code(client: AsyncClient) -> None:
    answers = [
        await client.get(TOKEN),
        await client.post(TOKEN, json=LOGIN),
        await client.post(TOKEN, data=LOGIN),
        await client.post(TOKEN, content=b"x" * 1_048_577),
        await client.post(REVOKE, data={}),
    ]
    found = [(answer.status_code, answer.json()["error"]) for answer in answers]
    assert found == [
        (405, "invalid_request"),
        (400, "invalid_request"),
        (401, "invalid_grant"),
        (413, "invalid_request"),
        (400, "invalid_request"),
    ]


async def test_token_is_issued_when_a_client_names_itself(
    client: AsyncClient, user: SignedInUser
) -> None:
    form = LOGIN | {"grant_type": "password", "client_id": "web", "client_secret": "none"}
    assert (await client.post(TOKEN, data=form)).status_code == 200
    basic = await client.post(TOKEN, data=LOGIN, auth=("web", "a secret"))
    assert basic.status_code == 200


async def test_refresh_narrows_the_access_token_and_not_the_session(
    client: AsyncClient, user: SignedInUser
) -> None:
    async def refresh(token: str, **form: str) -> dict[str, str]:
        form |= {"grant_type": "refresh_token", "refresh_token": token}
        return cast("dict[str, str]", (await client.post(TOKEN, data=form)).json())

    narrow = await refresh((await log_in(client)).json()["refresh_token"], scope="account admin")
    assert narrow["scope"] == "account"
    headers = {"Authorization": f"Bearer {narrow['access_token']}"}
    assert (await client.get("/api/v1/events", headers=headers)).status_code == 403
    unspent = narrow["refresh_token"]
    assert (await refresh(unspent, scope="admin"))["error"] == "invalid_scope"
    assert "scope" not in await refresh(unspent)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoked_token_ends_its_session(
    client: AsyncClient, user: SignedInUser, kind: str
) -> None:
    pair = (await log_in(client)).json()
    assert (await client.post(REVOKE, data={"token": pair[kind]})).status_code == 200
    assert (await read_me(client, pair["access_token"])).status_code == 401


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "\u20ac", "x" * 100_000])
async def test_revoking_succeeds_when_nobody_knows_the_token(
    client: AsyncClient, token: str
) -> None:
    answer = await client.post(REVOKE, data={"token": token, "token_type_hint": "invented"})
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", [METADATA, f"{METADATA}/shop"])
@pytest.mark.parametrize("public_url", ["https://example.com", "https://example.com/shop/"])
async def test_document_names_addresses_below_the_root_path(
    settings: Settings, state: State, path: str, public_url: str
) -> None:
    update = {"root_path": "/shop", "public_url": public_url}
    behind = State(**{**state, "settings": settings.model_copy(update=update)})
    async with connect(create_app(behind["settings"]), behind) as client:
        document = (await client.get(path)).json()
        assert (await client.get(f"{METADATA}/other")).status_code == 404
    assert document["issuer"] == "https://example.com/shop"
    assert document["token_endpoint"] == "https://example.com/shop/api/v1/auth/token"
    metadata = AuthorizationServerMetadata(document)
    for name in ("issuer", "token_endpoint", "jwks_uri", "grant_types_supported"):
        getattr(metadata, f"validate_{name}")()


async def test_document_names_only_what_answers(client: AsyncClient) -> None:
    document = (await client.get(METADATA)).json()
    paths = {
        value.removeprefix(document["issuer"])
        for name, value in document.items()
        if name.endswith(("_endpoint", "_uri"))
    }
    assert paths == {TOKEN, REVOKE, "/.well-known/jwks.json"}
    assert [(await client.get(path)).status_code for path in sorted(paths)] == [200, 405, 405]
