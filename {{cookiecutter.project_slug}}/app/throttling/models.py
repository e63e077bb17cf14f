"""The table of attempts that are counted; forgotten after a crash, which nobody misses."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Model


class ThrottleBucket(Model):
    """Attempts of one kind on one account, from one address, or of both together."""

    __tablename__ = "throttle_bucket"

    # A hash: what people type as their email may be a password, and has no limit of length.
    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    attempts: Mapped[int] = mapped_column(BigInteger)
    # No attempt for so long: the next one is the first.
    forget_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    blocked_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Until then this address counts as one from which the owner of the account logs in.
    known_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    # Writes no log: an attempt costs no wait for the disk.
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 (SQLAlchemy's form)
