"""Codes of authenticator apps (RFC 6238) and recovery codes: made, kept and compared here."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from uuid import UUID

import pyotp
import segno
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.settings import Settings

_STEP_SECONDS = 30
# RFC 6238, 5.2: one step, for a phone whose clock is wrong and for slow typing.
_STEPS_OF_SKEW = 1
# ASCII alone: `isdecimal` and pyotp's own comparison take digits of every script.
_CODE = re.compile("[0-9]{6}")
_RECOVERY_CODES = 10
# 80 bits are 16 characters of base32.
_RECOVERY_CODE_BYTES = 10
_NONCE_BYTES = 12


def new_secret() -> str:
    """160 bits in base32, as apps want to have it."""
    return pyotp.random_base32()


def matching_step(secret: str, typed: str, at: float) -> int | None:
    """The time step that has this code, around the moment `at` in seconds."""
    code = typed.replace(" ", "")
    if not _CODE.fullmatch(code):
        return None
    totp, now = pyotp.TOTP(secret), int(at // _STEP_SECONDS)
    steps = range(max(0, now - _STEPS_OF_SKEW), now + _STEPS_OF_SKEW + 1)
    matches = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    return matches[0] if matches else None


def otpauth_uri(secret: str, email: str, issuer: str) -> str:
    return str(pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer))


def draw_qr_code(uri: str) -> str:
    """SVG without a style attribute, for the Content-Security-Policy; light on a dark page too."""
    # Without its own size it has a viewBox: the style sheet scales it, and cuts nothing off.
    return segno.make(uri, error="m").svg_inline(light="#fff", omitsize=True)


def encrypt_secret(settings: Settings, user_id: UUID, secret: str) -> bytes:
    """For this user alone: copied to another row it cannot be read."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(settings).encrypt(nonce, secret.encode(), user_id.bytes)


def decrypt_secret(settings: Settings, user_id: UUID, encrypted: bytes) -> str | None:
    """None when SECRET_KEY is not the one that it was encrypted with."""
    nonce, rest = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
    try:
        return _cipher(settings).decrypt(nonce, rest, user_id.bytes).decode()
    except InvalidTag:
        return None


def _cipher(settings: Settings) -> AESGCM:
    # A key of its own, so that nothing encrypted or signed for another purpose is taken for it.
    return AESGCM(settings.keyed_hash(b"second factor"))


def new_recovery_codes() -> Sequence[str]:
    codes = (secrets.token_bytes(_RECOVERY_CODE_BYTES) for _ in range(_RECOVERY_CODES))
    texts = [base64.b32encode(code).decode().lower() for code in codes]
    return ["-".join(text[start : start + 4] for start in range(0, 16, 4)) for text in texts]


def hash_recovery_code(typed: str) -> bytes:
    """However it is typed: spaces, hyphens and capitals do not count."""
    text = re.sub(r"[\s-]", "", typed).lower()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
