"""The table of the {things}."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

from app.accounts.models import User
from app.database import Model


class Thing(Model):
    __tablename__ = "thing"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # Loaded by who asks for it: the pages of the admin app.
    owner: Mapped[User] = relationship(lazy="raise")

    # A page is one walk along this index.
    __table_args__ = (Index(None, "owner_id", "id"),)
