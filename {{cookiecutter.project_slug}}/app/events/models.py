"""The tables of the events."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.models import User
from app.database import Model


class EventHead(Model):
    """Counts the events of one owner. Who writes some locks it last, until the commit, so their
    numbers become visible in order and without a gap; a sequence would do neither."""

    __tablename__ = "event_head"

    owner_id: Mapped[UUID] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE"), primary_key=True
    )
    # Another one after a backup was restored, which makes numbers mean other events.
    epoch: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    seq: Mapped[int] = mapped_column(BigInteger)

    # Room on the page for the next version of the row, so that no index changes. Default: 100.
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)


class Event(Model):
    __tablename__ = "event"

    # Not of the user: that key would lock their row, and who deletes a user holds it already.
    owner_id: Mapped[UUID] = mapped_column(
        ForeignKey(EventHead.owner_id, ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # "item.created" and the id of the item: what it is like now, the client may read.
    kind: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[UUID]
    # Of the writing, in the order of the numbers; now() would be that of the transaction's begin.
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.clock_timestamp()
    )

    # Rows lie in the order of time: BRIN has a few pages where a tree has as many as the table.
    __table_args__ = (Index(None, "created_at", postgresql_using="brin"),)
