"""The keys of access tokens as they stand in JWT_KEYS: the first signs, all of them verify."""

from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

# RFC 7518, 3.2: as long as the hash.
HMAC_KEY_BYTES_MIN = 32
# A random key of 32 characters has about 20 different ones; "changeme" repeated has 7.
_DISTINCT_CHARACTERS_MIN = 12
# RFC 7518, 3.3.
RSA_KEY_BITS_MIN = 2048

Algorithm = Literal["HS256", "ES256", "RS256"]
# It stands in headers and file names of other people's systems.
KeyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class SigningKey(BaseModel):
    """HS256 has a secret text, ES256 and RS256 a private key in PEM."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kid: KeyId
    alg: Algorithm = "HS256"
    key: SecretStr

    @model_validator(mode="after")
    def _refuse_key_of_another_kind(self) -> Self:
        if not _fits(self.alg, self.key.get_secret_value()):
            raise ValueError(f"the key does not fit {self.alg}: {_WANTED[self.alg]}")
        return self


_WANTED = {
    "HS256": f"it takes a random text of at least {HMAC_KEY_BYTES_MIN} bytes, not a PEM",
    "ES256": "it takes a private key on the curve P-256 in PEM, without a password",
    "RS256": f"it takes an RSA private key of {RSA_KEY_BITS_MIN} bits in PEM, without a password",
}


def refuse_twins(ring: tuple[SigningKey, ...]) -> tuple[SigningKey, ...]:
    if len({key.kid for key in ring}) < len(ring):
        raise ValueError("two keys have the same kid")
    return ring


def is_weak(secret: str) -> bool:
    placeholders = ("change", "secret", "example", "password", "development")
    return len(set(secret)) < _DISTINCT_CHARACTERS_MIN or any(
        word in secret.lower() for word in placeholders
    )


def _fits(algorithm: Algorithm, text: str) -> bool:
    if algorithm == "HS256":
        # A public key as a shared secret is the classic confusion of algorithms.
        return len(text.encode()) >= HMAC_KEY_BYTES_MIN and "-----BEGIN" not in text
    key = _load(text)
    if algorithm == "ES256":
        return isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    return isinstance(key, RSAPrivateKey) and key.key_size >= RSA_KEY_BITS_MIN


def _load(text: str) -> object:
    try:
        return load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        return None
