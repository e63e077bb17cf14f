"""Tables of the accounts: users, their sessions, and the tokens that only they can have."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

from app.accounts.roles import Role
from app.database import Model


class User(Model):
    # `user` is a reserved word in SQL.
    __tablename__ = "app_user"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    # Lower case, so that one person cannot register twice.
    email: Mapped[str] = mapped_column(Text, unique=True)
    full_name: Mapped[str | None] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[Role] = mapped_column(default=Role.MEMBER, server_default=Role.MEMBER)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    email_verified_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Session(Model):
    """One login on one device; access tokens name it, so ending it ends them at once."""

    __tablename__ = "session"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    # The last login or refresh: a write for every request would double the cost of a read.
    last_used_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now()
    )
    # Of the last login or refresh.
    address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    # What its access tokens may be used for; separated by spaces, as in RFC 6749.
    # The default is for the code before scopes, which may still run beside this one.
    scope: Mapped[str] = mapped_column(Text, server_default="account admin items:read items:write")
    # Loaded by who asks for it: the pages of the admin app. Default: whenever it is read.
    owner: Mapped[User] = relationship(lazy="raise")


class RefreshToken(Model):
    """Single use; the row stays after use so that a second use is recognised as theft."""

    __tablename__ = "refresh_token"

    # SHA-256 of the token: 256 random bits need no slow hash.
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey(Session.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class EmailToken(Model):
    """Proves that somebody reads a mailbox; deleted when it is used."""

    __tablename__ = "email_token"

    # SHA-256 of the token: 256 random bits need no slow hash.
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    # What it is for: one that verifies an address must not reset a password.
    purpose: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
