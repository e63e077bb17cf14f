"""Request and response bodies of the {things}."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas import Page, RequestBody, ResponseBody, StorableText

Name = Annotated[StorableText, Field(min_length=1, max_length=200)]


class ThingCreate(RequestBody):
    name: Name


class ThingUpdate(ThingCreate):
    name: Name = Field(default="", validate_default=False)


class ThingOut(ResponseBody):
    id: UUID
    name: str
    created_at: datetime


class ThingPage(Page[ThingOut]):
    """Newest first."""
