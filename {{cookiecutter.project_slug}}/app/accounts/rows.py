"""What the statements of `repository.py` return when it is no row of a table."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """The signed-in user together with the session that the token names."""

    session_id: UUID
    id: UUID
    email: str
    full_name: str | None
    is_admin: bool
    created_at: datetime
    email_verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class Credentials:
    user_id: UUID
    password_hash: str
    is_admin: bool


class SessionRow(NamedTuple):
    id: UUID
    created_at: datetime
    last_used_at: datetime
    address: str | None
    user_agent: str | None


class SpentToken(NamedTuple):
    session_id: UUID
    user_id: UUID
    scope: str
    is_admin: bool
