"""Access tokens (JWT) and opaque ones for refreshes and emails; the only file with jose."""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast
from uuid import UUID

from jose import jwk, jws
from jose.backends.base import Key
from jose.exceptions import JOSEError
from jose.utils import base64url_decode, base64url_encode
from pydantic import BaseModel, ConfigDict, ValidationError
from uuid_utils.compat import uuid7

from app.errors import UnauthorizedError
from app.keys import SigningKey
from app.settings import Settings

# Ours have about 500 bytes, with RS256 800.
_TOKEN_LENGTH_MAX = 2048
# Of 2 KB each with their claims.
_TOKENS_REMEMBERED_MAX = 1000
# RFC 9068, 2.1. Before it was JWT: such tokens are good for the rest of their short life.
_TYPE = "at+jwt"
_FORMER_TYPE = "JWT"
# Clocks of two hosts may differ by this much.
_CLOCK_SKEW_SECONDS = 30


class AccessClaims(BaseModel):
    """All required; anything missing, unknown or of another type is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iss: str
    aud: str
    sub: UUID
    sid: UUID
    jti: UUID
    iat: int
    exp: int
    typ: Literal["access"]
    scope: str


@dataclass(frozen=True)
class TokenKey:
    """Built once: building it for every token costs 47 us."""

    kid: str
    algorithm: str
    signing_key: Key
    verifying_key: Key
    # What every token of this key begins with: alg, kid and typ, always in the same words.
    header_segment: str
    former_segment: str


@dataclass(frozen=True, eq=False)
class TokenKeys:
    """Made once per worker."""

    signing: TokenKey
    by_header_segment: Mapping[str, TokenKey]
    settings: Settings


def build_token_keys(settings: Settings) -> TokenKeys:
    keys = [_build_key(key) for key in settings.token_key_ring]
    by_segment = {
        segment: key for key in keys for segment in (key.header_segment, key.former_segment)
    }
    return TokenKeys(keys[0], by_segment, settings)


def _build_key(key: SigningKey) -> TokenKey:
    signing_key = jwk.construct(key.key.get_secret_value(), key.alg)
    is_shared = key.alg == "HS256"
    verifying_key = signing_key if is_shared else signing_key.public_key()
    segments = [
        jws.sign({}, signing_key, {"kid": key.kid, "typ": typ}, key.alg).partition(".")[0]
        for typ in (_TYPE, _FORMER_TYPE)
    ]
    return TokenKey(key.kid, key.alg, signing_key, verifying_key, *segments)


def public_keys(keys: TokenKeys) -> Sequence[Mapping[str, str]]:
    """RFC 7517 documents of the keys that have a public half; a shared secret has none."""
    return [
        {
            **cast("dict[str, str]", key.verifying_key.to_dict()),
            "kid": key.kid,
            "alg": key.algorithm,
            "use": "sig",
        }
        for key in dict.fromkeys(keys.by_header_segment.values())
        if key.algorithm != "HS256"
    ]


def issue_access_token(keys: TokenKeys, user_id: UUID, session_id: UUID, scope: str) -> str:
    now = int(time.time())
    claims = AccessClaims(
        iss=keys.settings.token_issuer,
        aud=keys.settings.token_audience,
        sub=user_id,
        sid=session_id,
        jti=uuid7(),
        iat=now,
        exp=now + keys.settings.access_token_seconds,
        typ="access",
        scope=scope,
    )
    key = keys.signing
    payload = claims.model_dump(mode="json")
    header = {"kid": key.kid, "typ": _TYPE}
    return jws.sign(payload, key.signing_key, header, key.algorithm)


def read_access_token(keys: TokenKeys, token: str) -> AccessClaims:
    """Raises UnauthorizedError for whatever this service did not issue or no longer accepts."""
    claims = _verify(keys, token)
    now = time.time()
    if claims.exp <= now:
        raise UnauthorizedError("The access token has expired.")
    if (
        claims.iss != keys.settings.token_issuer
        or claims.aud != keys.settings.token_audience
        or claims.iat > now + _CLOCK_SKEW_SECONDS
        # Also what was issued before the setting was lowered.
        or claims.exp - claims.iat > keys.settings.access_token_seconds
    ):
        raise _invalid()
    return claims


# Of a token that is sent again and again, the signature is checked once: 24 us of 350 us.
# What may change meanwhile is looked at each time: its end, the session, the user.
@lru_cache(_TOKENS_REMEMBERED_MAX)
def _verify(keys: TokenKeys, token: str) -> AccessClaims:
    # The header is looked up, not read: `alg`, `crit`, `kid` and `jwk` of a stranger never count.
    key = keys.by_header_segment.get(token.partition(".")[0])
    if key is None or len(token) > _TOKEN_LENGTH_MAX:
        raise _invalid()
    # The key does it: `jws.verify` would read the header again, which costs 20 us.
    signed, _, signature = token.rpartition(".")
    try:
        digest = base64url_decode(signature.encode())
        # jose ignores characters outside the alphabet, so that "token!!" would pass as "token",
        # and the unused bits of the last character. All else is compared or signed as text.
        if base64url_encode(digest) != signature.encode():
            raise _invalid()
        if not key.verifying_key.verify(signed.encode(), digest):
            raise _invalid()
        payload = base64url_decode(signed.partition(".")[2].encode())
        return AccessClaims.model_validate_json(payload, strict=True)
    except (JOSEError, ValidationError, ValueError, TypeError) as error:
        raise _invalid() from error


def _invalid() -> UnauthorizedError:
    return UnauthorizedError("The access token is not valid.")


def new_opaque_token() -> str:
    """256 random bits, for refreshes and emails; only `hash_opaque_token` of it is stored."""
    return secrets.token_urlsafe(32)


def hash_opaque_token(token: str) -> bytes:
    # What comes in a form may hold lone surrogates, which UTF-8 cannot say.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
