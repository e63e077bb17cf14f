"""What the reader of access tokens lets in, and what it refuses."""

import hmac
import json
import time
from collections.abc import Mapping
from typing import Literal
from uuid import uuid4

import pytest
from jose import jws
from jose.utils import base64url_encode

from app.accounts.tokens import TokenKeys, build_token_keys, issue_access_token, read_access_token
from app.errors import UnauthorizedError
from app.settings import Settings
from manage.keys import generate_key

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


def encode(value: object) -> str:
    # In the words of the service: its header is compared as a whole.
    document = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return base64url_encode(document.encode()).decode()


def forge(settings: Settings, claims: object, header: Mapping[str, object] | None = None) -> str:
    """Signed with the real key: only what is in the token is wrong."""
    key = settings.token_key_ring[0]
    own = {"alg": "HS256", "kid": key.kid, "typ": "at+jwt"}
    signed = f"{encode(own | dict(header or {}))}.{encode(claims)}"
    secret = key.key.get_secret_value().encode()
    return f"{signed}.{base64url_encode(hmac.digest(secret, signed.encode(), 'sha256')).decode()}"


def assert_refused(keys: TokenKeys, *tokens: str) -> None:
    for token in tokens:
        with pytest.raises(UnauthorizedError):
            read_access_token(keys, token)


def test_token_names_user_and_session(keys: TokenKeys) -> None:
    claims = read_access_token(keys, issue_access_token(keys, USER_ID, SESSION_ID, "account"))
    assert (claims.sub, claims.sid, claims.scope) == (USER_ID, SESSION_ID, "account")


def test_token_is_accepted_when_all_claims_are_right(
    keys: TokenKeys, settings: Settings, claims: dict[str, object]
) -> None:
    assert read_access_token(keys, forge(settings, claims)).sub == USER_ID


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody"},
        {"aud": "others"},
        {"aud": ["service-api"]},
        {"sub": "ada"},
        {"typ": "refresh"},
        {"iat": 99_999_999_999},
        {"exp": 1},
        {"exp": 99_999_999_999},
        {"exp": "99999999999"},
        {"exp": 1e308},
        {"scope": ["admin"]},
        {"admin": True},
        {"role": "admin"},
        {"nbf": 1},
    ],
)
def test_token_is_refused_when_a_claim_is_wrong(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], change: dict[str, object]
) -> None:
    assert_refused(keys, forge(settings, claims | change))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "typ", "scope"])
def test_token_is_refused_when_a_claim_is_missing_or_of_another_type(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], name: str
) -> None:
    wrong: list[object] = [None, True, [], {}, 1.5, -1, 10**400, float("inf"), "\ud800"]
    # Any text is a scope, though one that opens nothing.
    wrong += [] if name == "scope" else ["", "'; DROP TABLE app_user; --"]
    assert_refused(keys, *(forge(settings, claims | {name: value}) for value in wrong))
    del claims[name]
    assert_refused(keys, forge(settings, claims))


@pytest.mark.parametrize("claims", [[], "text", 1, None, [[]]])
def test_token_is_refused_when_its_claims_are_no_object(
    keys: TokenKeys, settings: Settings, claims: object
) -> None:
    assert_refused(keys, forge(settings, claims))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "NoNe"},
        {"alg": None},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"kid": None},
        {"kid": "unknown"},
        {"kid": "../../../../dev/null"},
        {"kid": "secret-key' UNION SELECT 'x"},
        {"kid": "secret-key\x00"},
        {"kid": ["secret-key"]},
        {"crit": ["exp"]},
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"jwk": {"kty": "oct", "k": "eA"}},
        {"x5u": "http://127.0.0.1:1/"},
        {"typ": "refresh"},
        {"zip": "DEF"},
    ],
)
def test_token_is_refused_when_its_header_is_changed(
    keys: TokenKeys, settings: Settings, claims: dict[str, object], header: dict[str, object]
) -> None:
    token = forge(settings, claims, header)
    assert_refused(keys, token, token.rpartition(".")[0] + ".")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "x" + token,
        lambda token: token + "!!",
        lambda token: token + "\n",
        lambda token: token + "=",
        lambda token: token + ".",
        lambda token: token + "." + token,
        lambda token: token[:-1],
        lambda token: token[:-1] + chr(ord(token[-1]) + 1),
        lambda token: token.swapcase(),
        lambda token: token.replace(".", "", 1),
        lambda token: token.replace(".", "..", 1),
        lambda token: token.replace("-", "+").replace("_", "/") + "+",
        lambda token: token.rpartition(".")[0],
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.split(".")[0] + "..",
        lambda token: f"{token} {token}",
        lambda token: "eyJhbGciOiJub25lIn0." + token.partition(".")[2],
        lambda _token: "x" * 1_000_000,
        lambda _token: "." * 100_000,
        lambda _token: "é.é.é",
        lambda _token: "",
    ],
)
def test_token_is_refused_when_it_is_malformed(keys: TokenKeys, spoil: object) -> None:
    assert callable(spoil)
    assert_refused(keys, spoil(issue_access_token(keys, USER_ID, SESSION_ID, "account")))


def test_token_is_refused_when_one_character_of_it_is_changed(keys: TokenKeys) -> None:
    token = issue_access_token(keys, USER_ID, SESSION_ID, "account")
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        assert_refused(keys, token[:place] + other + token[place + 1 :])


def test_token_is_refused_when_it_is_signed_with_another_hash(
    keys: TokenKeys, settings: Settings, claims: dict[str, object]
) -> None:
    key = settings.token_key_ring[0]
    header = {"kid": key.kid, "typ": "at+jwt"}
    assert_refused(keys, jws.sign(claims, key.key.get_secret_value(), header, "HS512"))


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_token_is_refused_when_a_public_key_is_used_as_a_shared_secret(
    settings: Settings, algorithm: Literal["ES256", "RS256"]
) -> None:
    ring = (generate_key(algorithm),)
    keys = build_token_keys(settings.model_copy(update={"jwt_keys": ring}))
    token = issue_access_token(keys, USER_ID, SESSION_ID, "account")
    public_pem: bytes = keys.signing.verifying_key.to_pem()
    for header in (token.partition(".")[0], encode({"alg": "HS256", "kid": ring[0].kid})):
        signed = f"{header}.{token.split('.')[1]}"
        signature = base64url_encode(hmac.digest(public_pem, signed.encode(), "sha256"))
        assert_refused(keys, f"{signed}.{signature.decode()}")


def test_token_is_refused_when_another_key_signed_it(
    keys: TokenKeys, claims: dict[str, object]
) -> None:
    assert_refused(keys, jws.sign(claims, "x" * 32, algorithm="HS256"))


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
    assert read_access_token(keys, forge(settings, claims, {"typ": "JWT"})).sub == USER_ID
