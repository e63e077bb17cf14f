"""Request and response bodies of the items."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas import RequestBody, ResponseBody, Text

Title = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=10_000)]


class ItemCreate(RequestBody):
    title: Title
    description: Description | None = None


class ItemUpdate(RequestBody):
    """Only the fields that are sent change; a title cannot become null."""

    title: Title = Field(default="", validate_default=False)
    description: Description | None = None


class ItemOut(ResponseBody):
    id: UUID
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class ItemPage(ResponseBody):
    items: list[ItemOut]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page.")
