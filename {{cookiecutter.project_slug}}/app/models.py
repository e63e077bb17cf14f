"""Imports every domain's tables, so that `Model.metadata` is complete for Alembic."""

from app.accounts.models import EmailToken, RefreshToken, Session, User
from app.admin.models import AuditEntry
from app.database import Model
from app.items.models import Item
from app.throttling.models import ThrottleBucket

__all__ = [
    "AuditEntry",
    "EmailToken",
    "Item",
    "Model",
    "RefreshToken",
    "Session",
    "ThrottleBucket",
    "User",
]
