"""Writes the audit log, in the transaction of the change that it tells about."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from fastapi.encoders import jsonable_encoder
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from app.admin.models import AuditEntry
from app.database import Model
from app.security_events import SecurityEvent, record_event

# Whoever may read rows must not learn what admits to the service.
_SECRET_COLUMN = re.compile("password|secret|token|hash|key")

# Of an entry about a table as a whole: the nil UUID, https://www.rfc-editor.org/rfc/rfc9562#section-5.9
NO_ROW = UUID(int=0)


@dataclass(frozen=True)
class Actor:
    """Who acts, and from where."""

    id: UUID
    email: str
    address: str | None
    request_id: str | None


def actor_of(request: Request, user_id: UUID, email: str) -> Actor:
    address = request.client.host if request.client else None
    return Actor(user_id, email, address, request.state.request_id)


def record_change(session: AsyncSession, actor: Actor, action: str, row: Model) -> None:
    """What has been set on the row and not been flushed yet; nothing set, nothing recorded."""
    before, after = _changes(row)
    if before:
        session.add(entry(actor, action, row, before=before, after=after))


def entry(
    actor: Actor,
    action: str,
    subject: Model | type[Model],
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> AuditEntry:
    """About a row, or about a table as a whole."""
    subject_id = NO_ROW if isinstance(subject, type) else id_of(subject)
    record_event(
        SecurityEvent.ADMIN_ACTION,
        actor.id,
        action=action,
        subject=subject.__tablename__,
        subject_id=str(subject_id),
        changed=list(after or ()),
    )
    return AuditEntry(
        actor_id=actor.id,
        actor_email=actor.email,
        action=action,
        subject=subject.__tablename__,
        subject_id=subject_id,
        before=jsonable_encoder(before),
        after=jsonable_encoder(after),
        client_address=actor.address,
        request_id=actor.request_id,
    )


def id_of(row: Model) -> UUID:
    return cast("UUID", inspect(row).mapper.primary_key_from_instance(row)[0])


def columns_of(row: Model) -> dict[str, object]:
    """All but the secret ones."""
    names = inspect(row).mapper.column_attrs.keys()
    return {name: getattr(row, name) for name in names if not is_secret(name)}


def is_secret(column: str) -> bool:
    return _SECRET_COLUMN.search(column) is not None


def _changes(row: Model) -> tuple[dict[str, object], dict[str, object]]:
    before, after = {}, {}
    for name in columns_of(row):
        history = inspect(row).attrs[name].history
        if history.has_changes():
            before[name], after[name] = next(iter(history.deleted)), next(iter(history.added))
    return before, after
