"""Every change of a followed row becomes an event, in the transaction of the change."""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapped, Mapper, Session, object_session
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.accounts import models as accounts
from app.announcements import ACCOUNT, EVENTS, announce, announcement
from app.database import Columns, Database, Model
from app.events import repository

# A key of `session.info`: owner, what happened, and to which row.
_PENDING = "pending_events"


class Followed:
    """`class Parcel(Followed, Model)`: its owner hears of every row made, changed or deleted."""

    id: Mapped[UUID]
    owner_id: Mapped[UUID]


@event.listens_for(Followed, "after_insert", propagate=True)
def _created(_mapper: Mapper[Model], _connection: Connection, row: Model) -> None:
    _remember(row, "created")


# Afterwards what SQL has computed no longer counts as modified.
@event.listens_for(Followed, "before_update", propagate=True)
def _changed(_mapper: Mapper[Model], _connection: Connection, row: Model) -> None:
    if _session_of(row).is_modified(row, include_collections=False):
        _remember(row, "changed")


@event.listens_for(Followed, "after_delete", propagate=True)
def _deleted(_mapper: Mapper[Model], _connection: Connection, row: Model) -> None:
    _remember(row, "deleted")


def _remember(row: Model, change: str) -> None:
    session, followed = _session_of(row), cast("Followed", row)
    session.info.setdefault(_PENDING, []).append(
        (followed.owner_id, f"{row.__tablename__}.{change}", followed.id)
    )


@event.listens_for(Session, "before_commit")
def _write(session: Session) -> None:
    # The commit would do so only after this.
    session.flush()
    by_owner: dict[UUID, list[tuple[str, UUID]]] = {}
    for owner_id, kind, row_id in session.info.pop(_PENDING, ()):
        by_owner.setdefault(owner_id, []).append((kind, row_id))
    # Always in the same order: two writers for the same owners must not wait for each other.
    for owner_id in sorted(by_owner):
        repository.add_events(session, owner_id, by_owner[owner_id])
        announce(session, EVENTS, owner_id)


@event.listens_for(accounts.User, "after_update")
@event.listens_for(accounts.User, "after_delete")
def _account_changed(
    _mapper: Mapper[accounts.User], _connection: Connection, user: accounts.User
) -> None:
    announce(_session_of(user), ACCOUNT, user.id)


@event.listens_for(accounts.Session, "after_delete")
def _session_ended(
    _mapper: Mapper[accounts.Session], _connection: Connection, login: accounts.Session
) -> None:
    announce(_session_of(login), ACCOUNT, login.user_id)


async def write_followed(
    database: Database,
    statement: TypedReturnsRows[*Columns],
    owner_id: UUID,
    parameters: Mapping[str, object],
) -> tuple[*Columns]:
    """The row of a statement made by `with_event`: what a session does on its own, for one
    statement without a session."""
    row = await database.write_one(statement, parameters)
    database.announcements.add([announcement(EVENTS, owner_id)])
    return row


def _session_of(row: Model) -> Session:
    return cast("Session", object_session(row))
