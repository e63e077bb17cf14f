"""What the reader of access tokens lets in, and what it refuses."""

import time
from uuid import uuid4

import pytest
from jose import jws

from app.accounts.tokens import TokenKeys, build_token_keys, issue_access_token, read_access_token
from app.errors import UnauthorizedError
from app.settings import Settings

USER_ID, SESSION_ID = uuid4(), uuid4()


@pytest.fixture
def keys(settings: Settings) -> TokenKeys:
    return build_token_keys(settings)


@pytest.fixture
def claims(settings: Settings) -> dict[str, object]:
    now = int(time.time())
    return {
        "iss": settings.token_issuer,
        "aud": settings.token_audience,
        "sub": str(USER_ID),
        "sid": str(SESSION_ID),
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + 60,
        "typ": "access",
        "scope": "account",
    }


def sign(settings: Settings, claims: dict[str, object], **header: str) -> str:
    key = settings.token_key_ring[0]
    header = {"kid": key.kid, "typ": "at+jwt"} | header
    return jws.sign(claims, key.key.get_secret_value(), headers=header, algorithm="HS256")


def test_token_names_user_and_session(keys: TokenKeys) -> None:
    claims = read_access_token(keys, issue_access_token(keys, USER_ID, SESSION_ID, "account"))
    assert (claims.sub, claims.sid, claims.scope) == (USER_ID, SESSION_ID, "account")


def test_token_is_accepted_when_all_claims_are_right(
    keys: TokenKeys, settings: Settings, claims: dict[str, object]
) -> None:
    assert read_access_token(keys, sign(settings, claims)).sub == USER_ID


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "somebody"),
        ("aud", "others"),
        ("aud", ["service-api"]),
        ("sub", "ada"),
        ("sub", None),
        ("sid", ""),
        ("typ", "refresh"),
        ("iat", 99_999_999_999),
        ("exp", 1),
        ("exp", 99_999_999_999),
        ("iat", -1),
        ("exp", None),
        ("exp", []),
        ("exp", "99999999999"),
        ("exp", 1e308),
        ("exp", True),
        ("scope", ["admin"]),
        ("admin", True),
    ],
)
def test_token_is_refused_when_a_claim_is_wrong(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], name: str, value: object
) -> None:
    with pytest.raises(UnauthorizedError):
        read_access_token(keys, sign(settings, claims | {name: value}))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "typ", "scope"])
def test_token_is_refused_when_a_claim_is_missing(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], name: str
) -> None:
    del claims[name]
    with pytest.raises(UnauthorizedError):
        read_access_token(keys, sign(settings, claims))


@pytest.mark.parametrize("header", [{"crit": "b64"}, {"kid": "../key"}, {"typ": "at"}])
def test_token_is_refused_when_its_header_is_not_ours(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], header: dict[str, str]
) -> None:
    with pytest.raises(UnauthorizedError):
        read_access_token(keys, sign(settings, claims, **header))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token + "!!",
        lambda token: token + "\n",
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),
        lambda token: token.replace(".", "..", 1),
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.rpartition(".")[0],
        lambda token: "eyJhbGciOiJub25lIn0." + token.partition(".")[2],
        lambda token: "x" * 1_000_000,
        lambda _token: "é.é.é",
        lambda _token: "",
    ],
)
def test_token_is_refused_when_it_is_malformed(keys: TokenKeys, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(UnauthorizedError):
        read_access_token(keys, spoil(issue_access_token(keys, USER_ID, SESSION_ID, "account")))


def test_token_is_refused_when_another_key_signed_it(
    keys: TokenKeys, claims: dict[str, object]
) -> None:
    with pytest.raises(UnauthorizedError):
        read_access_token(keys, jws.sign(claims, "x" * 32, algorithm="HS256"))


def test_token_is_refused_when_it_expires_after_it_was_accepted(
    keys: TokenKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issue_access_token(keys, USER_ID, SESSION_ID, "")
    claims = read_access_token(keys, token)
    monkeypatch.setattr("app.accounts.tokens.time.time", lambda: float(claims.exp))
    with pytest.raises(UnauthorizedError, match="expired"):
        read_access_token(keys, token)


def test_token_says_its_type_and_the_name_of_the_service(settings: Settings) -> None:
    given = {"database_url", "secret_key"}
    given_settings = settings.model_dump(include=given)
    named = Settings.model_validate(given_settings | {"service_name": "bar"})
    keys = build_token_keys(named)
    token = issue_access_token(keys, USER_ID, SESSION_ID, "account")
    assert jws.get_unverified_header(token)["typ"] == "at+jwt"
    claims = read_access_token(keys, token)
    assert (claims.iss, claims.aud) == ("bar", "bar")


def test_token_of_the_former_type_is_good_until_it_expires(
    keys: TokenKeys, settings: Settings, claims: dict[str, object]
) -> None:
    assert read_access_token(keys, sign(settings, claims, typ="JWT")).sub == USER_ID
