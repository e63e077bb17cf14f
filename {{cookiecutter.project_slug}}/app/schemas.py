"""What all request and response bodies share, and cursor pages, newest first."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Generic, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.errors import InvalidInputError

# Every id is before this one, so the first page needs no statement of its own.
_AFTER_ALL_IDS = UUID(int=2**128 - 1)


class RequestBody(BaseModel):
    """Unknown fields are refused: a misspelt one would be lost, `role` must never get in."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)


def _refuse_nul(value: str) -> str:
    # PostgreSQL cannot store it.
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    return value


StorableText = Annotated[str, AfterValidator(_refuse_nul)]

Out = TypeVar("Out", bound=ResponseBody)


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


class PageQuery(BaseModel):
    """Query parameters of a list; a domain adds its filters."""

    limit: int = Field(default=20, ge=1, le=100, description="How many at most.")
    # 16 bytes in base64url.
    cursor: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{22}$",
        description="`next_cursor` of the page before.",
    )

    @property
    def row_count(self) -> int:
        """One more than asked for: it tells whether there is another page."""
        return self.limit + 1

    @property
    def before_id(self) -> UUID:
        if self.cursor is None:
            return _AFTER_ALL_IDS
        try:
            return UUID(bytes=base64.b64decode(f"{self.cursor}==", altchars=b"-_", validate=True))
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError("The cursor is not one that this service gave out.") from error


class Page(ResponseBody, Generic[Out]):
    items: list[Out]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page.")

    @classmethod
    def of(cls, rows: Sequence[_Identified], query: PageQuery) -> Self:
        """What `query.row_count` rows make."""
        shown = rows[: query.limit]
        next_cursor = _encode_cursor(shown[-1].id) if len(rows) > query.limit else None
        return cls.model_validate({"items": shown, "next_cursor": next_cursor})


def _encode_cursor(last_id: UUID) -> str:
    return base64.urlsafe_b64encode(last_id.bytes).decode().rstrip("=")
