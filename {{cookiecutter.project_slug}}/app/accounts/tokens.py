"""Access tokens (JWT) and refresh tokens (opaque); the only file that imports jose."""

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from jose import jwk, jws
from jose.backends.base import Key
from jose.exceptions import JOSEError
from pydantic import BaseModel, ConfigDict, ValidationError
from uuid_utils.compat import uuid7

from app.errors import UnauthorizedError
from app.settings import Settings

_ALGORITHM = "HS256"
# Ours have about 400 bytes.
_TOKEN_LENGTH_MAX = 2048
# Clocks of two hosts may differ by this much.
_CLOCK_SKEW_SECONDS = 30
# RFC 7515, 7.1; a length of 1 modulo 4 is no base64, so 43 is what HMAC-SHA-256 gives.
_COMPACT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", re.ASCII)


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


@dataclass(frozen=True)
class TokenKeys:
    """Made once per worker; building the key for every token costs 47 us."""

    key: Key
    header_segment: str
    issuer: str
    audience: str
    access_token_seconds: int
    refresh_token_seconds: int
    refresh_reuse_grace_seconds: int


def build_token_keys(settings: Settings) -> TokenKeys:
    key = jwk.construct(settings.secret_key.get_secret_value(), _ALGORITHM)
    header_segment = jws.sign({}, key, algorithm=_ALGORITHM).partition(".")[0]
    return TokenKeys(
        key,
        header_segment,
        settings.token_issuer,
        settings.token_audience,
        settings.access_token_seconds,
        settings.refresh_token_seconds,
        settings.refresh_reuse_grace_seconds,
    )


def issue_access_token(keys: TokenKeys, user_id: UUID, session_id: UUID) -> str:
    now = int(time.time())
    claims = AccessClaims(
        iss=keys.issuer,
        aud=keys.audience,
        sub=user_id,
        sid=session_id,
        jti=uuid7(),
        iat=now,
        exp=now + keys.access_token_seconds,
        typ="access",
    )
    return jws.sign(claims.model_dump(mode="json"), keys.key, algorithm=_ALGORITHM)


def read_access_token(keys: TokenKeys, token: str) -> AccessClaims:
    """Raises UnauthorizedError for whatever this service did not issue or no longer accepts."""
    claims = _verify(keys, token)
    now = time.time()
    if claims.exp <= now:
        raise UnauthorizedError("The access token has expired.")
    if (
        claims.iss != keys.issuer
        or claims.aud != keys.audience
        or claims.iat > now + _CLOCK_SKEW_SECONDS
    ):
        raise _invalid()
    return claims


def _verify(keys: TokenKeys, token: str) -> AccessClaims:
    # The header is compared, not read: `alg`, `crit`, `kid` and `jwk` of a stranger never count.
    if (
        len(token) > _TOKEN_LENGTH_MAX
        or token.partition(".")[0] != keys.header_segment
        or not _is_canonical(token)
    ):
        raise _invalid()
    try:
        payload = jws.verify(token, keys.key, [_ALGORITHM])
        return AccessClaims.model_validate_json(payload, strict=True)
    except (JOSEError, ValidationError, ValueError, TypeError) as error:
        raise _invalid() from error


def _is_canonical(token: str) -> bool:
    # jose ignores characters outside the alphabet, so that "token!!" would pass as "token",
    # and the unused bits of the last character, so that two signatures would be one.
    if not _COMPACT_FORM.fullmatch(token):
        return False
    signature = token.rpartition(".")[2].encode()
    padding = b"=" * (-len(signature) % 4)
    decoded = base64.urlsafe_b64decode(signature + padding)
    return base64.urlsafe_b64encode(decoded) == signature + padding


def _invalid() -> UnauthorizedError:
    return UnauthorizedError("The access token is not valid.")


def new_refresh_token() -> str:
    """256 random bits; only `hash_refresh_token` of it is stored."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
