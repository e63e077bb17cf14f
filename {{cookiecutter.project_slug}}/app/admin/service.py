"""What admins do; every change is one transaction together with its audit entry."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import repository as accounts
from app.accounts import sessions
from app.accounts.authentication import Authenticator, LoginOrigin
from app.accounts.models import Session, User
from app.accounts.repository import Credentials
from app.accounts.roles import ADMIN, Role
from app.accounts.tokens import new_opaque_token
from app.admin import audit, repository
from app.admin.audit import Actor
from app.admin.repository import Row, Rows
from app.database import Database, Model
from app.errors import ConflictError, ForbiddenError, NotFoundError
from app.jobs.models import FINISHED, Job
from app.second_factor import service as second_factor
from app.second_factor.models import SecondFactor


def new_session(user_id: UUID, origin: LoginOrigin, seconds: int) -> Session:
    return Session(
        user_id=user_id,
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
        address=origin.address,
        user_agent=origin.user_agent,
        scope=ADMIN,
    )


async def start_session(
    database: Database,
    actor: Actor,
    credentials: Credentials,
    row: Session,
    replaced: UUID | None,
) -> UUID | None:
    """A new one for each login; None if this user is no admin."""
    async with database.transaction() as session:
        user = await session.get(User, actor.id, with_for_update=True)
        if user is None or ADMIN not in user.role.scopes:
            return None
        await sessions.refuse_outdated(session, credentials)
        if replaced is not None:
            await accounts.delete_session_of_user(session, user.id, replaced)
        session.add(row)
        await session.flush()
        session.add(audit.entry(actor, "log in", row))
    return row.id


async def record_failed_login(database: Database, claimed: Actor) -> None:
    """For unknown emails as well, so that the time it takes tells nothing."""
    async with database.transaction() as session:
        session.add(audit.entry(claimed, "log in failed", User))


async def end_session(database: Database, actor: Actor, session_id: UUID) -> None:
    async with database.transaction() as session:
        login = await session.get(Session, session_id, with_for_update=True)
        if login is not None:
            session.add(audit.entry(actor, "log out", login))
            await session.delete(login)


async def add_row(database: Database, actor: Actor, row: Row) -> Row:
    async with _transaction(database) as session:
        session.add(row)
        await session.flush()
        session.add(audit.entry(actor, "create", row, after=audit.columns_of(row)))
    return row


async def change_row(
    database: Database,
    actor: Actor,
    table: type[Row],
    row_id: UUID,
    values: Mapping[str, object],
) -> Row:
    async with _transaction(database) as session:
        (row,) = await _selected(session, table, [row_id])
        _set_values(session, actor, row, values)
    return row


async def add_user(
    authenticator: Authenticator, actor: Actor, values: Mapping[str, object]
) -> User:
    """With a password that nobody knows: they choose theirs through a reset link."""
    password_hash = await authenticator.hasher.hash(new_opaque_token())
    user = User(**values, password_hash=password_hash)
    return await add_row(authenticator.database, actor, user)


async def change_user(
    database: Database, actor: Actor, user_id: UUID, values: Mapping[str, object]
) -> User:
    _refuse_own_demotion(actor, [user_id], cast("Role", values["role"]))
    async with _transaction(database) as session:
        (user,) = await _lock_users(session, actor, [user_id])
        if values["email"] != user.email:
            user.email_verified_at = None
            # Who reads the old mailbox must get nowhere.
            await accounts.delete_email_tokens(session, user.id, "verify-email", "reset-password")
        _set_values(session, actor, user, values)
    return user


def _set_values(
    session: AsyncSession, actor: Actor, row: Model, values: Mapping[str, object]
) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    audit.record_change(session, actor, "change", row)


async def delete_rows(
    database: Database, actor: Actor, row_ids: Sequence[UUID], table: type[Model]
) -> None:
    if table is User:
        _refuse_own(actor, row_ids, "You cannot delete yourself.")
    async with database.transaction() as session:
        if table is User:
            await _lock_users(session, actor, row_ids)
        for row in await _selected(session, table, row_ids):
            row_id = audit.id_of(row)
            with_it = await repository.count_dependents(session, table, [row_id])
            before = {**audit.columns_of(row), **({"deleted_with_it": with_it} if with_it else {})}
            session.add(audit.entry(actor, "delete", row, before=before))
            await session.delete(row)


async def export_rows(
    database: Database, actor: Actor, table: type[Model], rows: Rows, query: str
) -> Sequence[Sequence[object]]:
    async with database.transaction() as session:
        found = [tuple(row) for row in await session.execute(rows)]
        after = {"rows": len(found), "query": query}
        session.add(audit.entry(actor, "export", table, after=after))
    return found


async def disable_users(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    """They are out at once: without their sessions their tokens are worth nothing."""
    _refuse_own(actor, user_ids, "You cannot disable yourself.")
    async with database.transaction() as session:
        for user in await _lock_users(session, actor, user_ids):
            user.disabled_at = user.disabled_at or datetime.now(UTC)
            audit.record_change(session, actor, "disable", user)
            await accounts.delete_sessions_of_user(session, user.id)


async def enable_users(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    async with database.transaction() as session:
        for user in await _lock_users(session, actor, user_ids):
            user.disabled_at = None
            audit.record_change(session, actor, "enable", user)


async def end_sessions(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    async with database.transaction() as session:
        for user in await _lock_users(session, actor, user_ids):
            ended = await accounts.delete_sessions_of_user(session, user.id)
            before = {"session_ids": ended}
            session.add(audit.entry(actor, "end sessions", user, before=before))


async def set_up_second_factor(
    database: Database, actor: Actor, credentials: Credentials, row: SecondFactor
) -> Sequence[str] | None:
    """The recovery codes; None when there is one already."""
    async with database.transaction() as session:
        await sessions.refuse_outdated(session, credentials)
        user = await session.get_one(User, actor.id)
        recovery_codes = await second_factor.set_up(session, row)
        if recovery_codes:
            session.add(audit.entry(actor, "set up second factor", user))
    return recovery_codes


async def renew_recovery_codes(database: Database, actor: Actor) -> Sequence[str] | None:
    async with database.transaction() as session:
        recovery_codes = await second_factor.renew_recovery_codes(session, actor.id)
        if recovery_codes:
            user = await session.get_one(User, actor.id)
            session.add(audit.entry(actor, "renew recovery codes", user))
    return recovery_codes


async def remove_second_factor(database: Database, actor: Actor, user_id: UUID) -> bool:
    """One's own, or by whoever has a shell on the machine."""
    async with database.transaction() as session:
        is_removed = await second_factor.remove(session, user_id)
        if is_removed:
            user = await session.get_one(User, user_id)
            session.add(audit.entry(actor, "remove second factor", user))
            if actor.id != user_id:
                await accounts.delete_sessions_of_user(session, user_id)
    return is_removed


async def reset_second_factors(database: Database, actor: Actor, user_ids: Sequence[UUID]) -> None:
    """They set up another one with their next login; whoever has the lost phone is out."""
    _refuse_own(actor, user_ids, "Your own has a page of its own, which asks for your password.")
    async with database.transaction() as session:
        for user in await _lock_users(session, actor, user_ids):
            if await second_factor.remove(session, user.id, by=actor.id):
                session.add(audit.entry(actor, "reset second factor", user))
                await accounts.delete_sessions_of_user(session, user.id)


async def give_role(database: Database, actor: Actor, user_ids: Sequence[UUID], role: Role) -> None:
    _refuse_own_demotion(actor, user_ids, role)
    async with database.transaction() as session:
        for user in await _lock_users(session, actor, user_ids):
            user.role = role
            audit.record_change(session, actor, "change role", user)


async def retry_jobs(database: Database, actor: Actor, job_ids: Sequence[UUID]) -> None:
    async with database.transaction() as session:
        for job in await _selected(session, Job, job_ids):
            if job.status in FINISHED:
                job.status, job.scheduled_at, job.abort_requested = "todo", None, False
                audit.record_change(session, actor, "retry", job)


async def cancel_jobs(database: Database, actor: Actor, job_ids: Sequence[UUID]) -> None:
    async with database.transaction() as session:
        for job in await _selected(session, Job, job_ids):
            if job.status == "todo":
                job.status = "cancelled"
            # The process that runs it asks for this every few seconds.
            job.abort_requested = job.status == "doing"
            audit.record_change(session, actor, "cancel", job)


def _refuse_own_demotion(actor: Actor, user_ids: Sequence[UUID], role: Role) -> None:
    if ADMIN not in role.scopes:
        _refuse_own(actor, user_ids, "You cannot take away your own admin rights.")


def _refuse_own(actor: Actor, user_ids: Sequence[UUID], sentence: str) -> None:
    # Together with `_lock_users`: there is always an admin left who can undo it.
    if actor.id in user_ids:
        raise ConflictError(sentence)


@asynccontextmanager
async def _transaction(database: Database) -> AsyncIterator[AsyncSession]:
    try:
        async with database.transaction() as session:
            yield session
    except IntegrityError as error:
        raise ConflictError("Another row has one of these values already.") from error


async def _lock_users(
    session: AsyncSession, actor: Actor, user_ids: Sequence[UUID]
) -> Sequence[User]:
    """Those users; whoever acts is locked among them, and has to be an admin still.

    Two admins who disable each other at once would both succeed otherwise.
    """
    locked = await repository.list_rows(session, User, {actor.id, *user_ids}, lock=True)
    is_admin = any(
        user.id == actor.id and user.disabled_at is None and ADMIN in user.role.scopes
        for user in locked
    )
    if not is_admin:
        raise ForbiddenError("You are not an administrator any more.")
    users = [user for user in locked if user.id in user_ids]
    if not users:
        raise NotFoundError("These rows do not exist any more.")
    return users


async def _selected(
    session: AsyncSession, table: type[Row], row_ids: Sequence[UUID]
) -> Sequence[Row]:
    rows = await repository.list_rows(session, table, row_ids, lock=True)
    if not rows:
        raise NotFoundError("These rows do not exist any more.")
    return rows
