"""The tables of the items."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Numeric, Text, func
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

from app.accounts.models import User
from app.database import Model
from app.events.recording import Followed


class ItemStatus(StrEnum):
    OPEN = "open"
    DONE = "done"


class Item(Followed, Model):
    __tablename__ = "item"

    # Version 7: ids made later sort later, so pages need no other column.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[ItemStatus] = mapped_column(server_default=ItemStatus.OPEN)
    price: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    due_on: Mapped[date | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
    # Loaded by who asks for it: the pages of the admin app. Default: whenever it is read.
    owner: Mapped[User] = relationship(lazy="raise")
    # One more statement for all items that are loaded together. Default: one for each item.
    tag_rows: Mapped[list["ItemTag"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, lazy="selectin"
    )

    # A page is one walk along this index.
    __table_args__ = (Index(None, "owner_id", "id"),)
    # What PostgreSQL fills in comes back with the write itself. Default: only with an INSERT.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 (SQLAlchemy reads it of the class)

    @property
    def tags(self) -> list[str]:
        return [row.name for row in self.tag_rows]

    @tags.setter
    def tags(self, names: Iterable[str]) -> None:
        self.tag_rows = [ItemTag(name=name) for name in set(names)]


class ItemTag(Model):
    __tablename__ = "item_tag"

    item_id: Mapped[UUID] = mapped_column(ForeignKey(Item.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
