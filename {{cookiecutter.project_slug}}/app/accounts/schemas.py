"""Request and response bodies of the accounts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, EmailStr, Field, SecretStr

from app.schemas import RequestBody, ResponseBody, Text

# RFC 5321 allows 254 characters on the wire.
Email = Annotated[EmailStr, Field(max_length=254), AfterValidator(str.lower)]
# NIST SP 800-63B: 8 at least; the ceiling only bounds the work of hashing.
Password = Annotated[SecretStr, Field(min_length=8, max_length=128)]
FullName = Annotated[Text, Field(min_length=1, max_length=200)]
# 256 random bits in base64url are 43 characters.
OpaqueToken = Annotated[SecretStr, Field(min_length=43, max_length=43)]


class UserCreate(RequestBody):
    email: Email
    password: Password
    full_name: FullName | None = None


class UserUpdate(RequestBody):
    full_name: FullName | None = None


class PasswordChange(RequestBody):
    current_password: Annotated[SecretStr, Field(max_length=128)]
    new_password: Password


class UserOut(ResponseBody):
    id: UUID
    email: str
    full_name: str | None
    is_admin: bool
    created_at: datetime


class RefreshRequest(RequestBody):
    refresh_token: OpaqueToken


class TokenPair(ResponseBody):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 (a name, not a secret)
    expires_in: int = Field(description="Seconds until the access token ends.")


class KeySet(ResponseBody):
    keys: list[Mapping[str, str]]
