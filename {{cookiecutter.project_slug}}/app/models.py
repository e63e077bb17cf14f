"""Imports every domain's tables, so that `Model.metadata` is complete for Alembic."""

from app.accounts.models import RefreshToken, Session, User
from app.admin.models import AuditEntry
from app.database import Model
from app.items.models import Item

__all__ = ["AuditEntry", "Item", "Model", "RefreshToken", "Session", "User"]
