"""Request and response bodies of the items."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from app.items.models import ItemStatus
from app.schemas import Page, PageQuery, RequestBody, ResponseBody, StorableText

Title = Annotated[StorableText, Field(min_length=1, max_length=200)]
Description = Annotated[StorableText, Field(max_length=10_000)]
Price = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]


def _refuse_number(value: object) -> object:
    # Pydantic would take 0 for 1970-01-01.
    if isinstance(value, int | float):
        raise ValueError("must be a text such as 2026-12-24")
    return value


DueOn = Annotated[date, BeforeValidator(_refuse_number, json_schema_input_type=date)]
Tag = Annotated[StorableText, Field(min_length=1, max_length=50)]


class ItemCreate(RequestBody):
    title: Title
    description: Description | None = None
    status: ItemStatus = ItemStatus.OPEN
    price: Price | None = None
    due_on: DueOn | None = None
    tags: list[Tag] = Field(default=[], max_length=20)


class ItemUpdate(ItemCreate):
    """Only the fields that are sent change; a title cannot become null."""

    title: Title = Field(default="", validate_default=False)


class ItemOut(ResponseBody):
    id: UUID
    title: str
    description: str | None
    status: ItemStatus
    price: Decimal | None
    due_on: date | None
    tags: Annotated[list[str], AfterValidator(sorted)]
    created_at: datetime
    updated_at: datetime


class ItemQuery(PageQuery):
    status: ItemStatus | None = None
    search: StorableText | None = Field(None, max_length=200, description="A part of the title.")


class ItemPage(Page[ItemOut]):
    """Newest first."""
