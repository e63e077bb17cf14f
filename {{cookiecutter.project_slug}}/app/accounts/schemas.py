"""Request and response bodies of the accounts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, Secret, SecretStr, model_validator

from app.accounts.passwords import common_passwords
from app.accounts.roles import Role
from app.schemas import RequestBody, ResponseBody, StorableText


def _refuse_common(password: SecretStr) -> SecretStr:
    if password.get_secret_value().strip().lower() in common_passwords():
        raise ValueError("this password is one of those that are guessed first")
    return password


# RFC 5321 allows 254 characters on the wire.
Email = Annotated[EmailStr, Field(max_length=254), AfterValidator(str.lower)]
# NIST SP 800-63B: 8 at least; the ceiling only bounds the work of hashing.
Password = Annotated[SecretStr, Field(min_length=8, max_length=128), AfterValidator(_refuse_common)]
FullName = Annotated[StorableText, Field(min_length=1, max_length=200)]
# 256 random bits in base64url are 43 characters.
OpaqueToken = Secret[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]]


class UserCreate(RequestBody):
    email: Email
    password: Password
    full_name: FullName | None = None

    @model_validator(mode="after")
    def _refuse_email_as_password(self) -> Self:
        if self.password.get_secret_value().strip().lower() == self.email:
            raise ValueError("the email is no password")
        return self


class UserUpdate(RequestBody):
    full_name: FullName | None = None


class PasswordChange(RequestBody):
    current_password: Annotated[SecretStr, Field(max_length=128)]
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
