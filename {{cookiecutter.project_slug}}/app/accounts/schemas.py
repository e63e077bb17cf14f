"""Request and response bodies of the accounts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    EmailStr,
    Field,
    Secret,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from app.accounts.passwords import common_passwords
from app.accounts.roles import Role
from app.schemas import RequestBody, ResponseBody, StorableText


def _refuse_common(password: str) -> str:
    if password.strip().lower() in common_passwords():
        raise ValueError("this password is one of those that are guessed first")
    return password


# RFC 5321 allows 254 characters on the wire.
Email = Annotated[EmailStr, Field(max_length=254), AfterValidator(str.lower)]
# As it was typed, spaces included: the form of a login changes nothing either.
_TypedPassword = Annotated[str, StringConstraints(max_length=128, strip_whitespace=False)]
_PASSWORD_FIELD = Field(json_schema_extra={"format": "password", "writeOnly": True})
TypedPassword = Annotated[Secret[_TypedPassword], _PASSWORD_FIELD]
# NIST SP 800-63B: 8 at least; the ceiling only bounds the work of hashing.
_NewPassword = Annotated[_TypedPassword, Field(min_length=8), AfterValidator(_refuse_common)]
Password = Annotated[Secret[_NewPassword], _PASSWORD_FIELD]
_email: TypeAdapter[str] = TypeAdapter(Email)
FullName = Annotated[StorableText, Field(min_length=1, max_length=200)]
# 256 random bits in base64url are 43 characters.
OpaqueToken = Secret[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]]


def read_email(typed: str) -> str:
    """As signing up stores it: lower case, and a domain in one of its two spellings.

    What is no email comes back as it is, for a login with it is counted like any other.
    """
    try:
        return _email.validate_python(typed.strip())
    except ValidationError:
        return typed.strip().lower()


class UserCreate(RequestBody):
    email: Email
    password: Password
    full_name: FullName | None = None


class UserUpdate(RequestBody):
    full_name: FullName | None = None


class PasswordChange(RequestBody):
    current_password: TypedPassword
    new_password: Password


class UserOut(ResponseBody):
    id: UUID
    email: str
    full_name: str | None
    role: Role
    created_at: datetime
    email_verified_at: datetime | None


class RefreshRequest(RequestBody):
    refresh_token: OpaqueToken


class EmailVerification(RequestBody):
    token: OpaqueToken


class PasswordResetRequest(RequestBody):
    email: Email


class PasswordReset(RequestBody):
    token: OpaqueToken
    new_password: Password


class SessionOut(ResponseBody):
    id: UUID
    created_at: datetime
    last_used_at: datetime = Field(description="The last login or refresh.")
    address: str | None
    user_agent: str | None
    current: bool = Field(description="Whether it is the one of this request.")


class TokenPair(ResponseBody):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (a name, not a secret)
    expires_in: int = Field(description="Seconds until the access token ends.")
    scope: str | None = Field(None, description="Only when it is not what was asked for.")


class KeySet(ResponseBody):
    keys: list[Mapping[str, str]]
