"""Tables of the second factor: what an authenticator app shares with us, and recovery codes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.models import User
from app.database import Model


class SecondFactor(Model):
    """Of one user; there only once a first code has shown that the app has the secret."""

    __tablename__ = "second_factor"

    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), primary_key=True)
    # Not a hash: codes are computed from it. The key is in SECRET_KEY, not in the database.
    encrypted_secret: Mapped[bytes] = mapped_column(LargeBinary)
    # The time step of the last code that was accepted: none is accepted twice.
    last_step: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RecoveryCode(Model):
    """For the day the phone is lost; deleted when it is used."""

    __tablename__ = "recovery_code"

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(SecondFactor.user_id, ondelete="CASCADE"), primary_key=True
    )
    # SHA-256: 80 random bits need no slow hash.
    code_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
