"""`manage create-admin` and `purge`: what operators do with the accounts."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

import click
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app import housekeeping
from app.accounts import repository as accounts
from app.accounts import service
from app.accounts.models import User
from app.accounts.passwords import PasswordHasher
from app.accounts.roles import Role
from app.accounts.schemas import UserCreate, read_email
from app.admin import service as administration
from app.admin.audit import NO_ROW, Actor, entry
from app.database import Database, create_engine
from app.errors import AppError
from app.settings import Settings
from server.logs import configure_logging
from server.settings import describe

Result = TypeVar("Result")


@click.command()
@click.option("--email", prompt=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_admin(email: str, password_stdin: bool) -> None:
    """Create a user who may use the admin app."""
    password = _read_password(password_stdin)
    try:
        body = UserCreate.model_validate({"email": email, "password": password})
    except ValidationError as error:
        raise click.ClickException(describe(error)) from error
    _run(_create_admin(body))
    click.echo(f"{body.email} may log in at /admin.")


@click.command()
@click.option("--email", prompt=True)
def reset_second_factor(email: str) -> None:
    """Let an administrator without phone and recovery codes set up another second factor."""
    if not _run(_reset_second_factor(read_email(email))):
        raise click.ClickException("Nobody with this email has a second factor.")
    click.echo(f"{email} sets up another one with the next login; all sessions have ended.")


async def _reset_second_factor(email: str) -> bool:
    async with open_database(Settings.load()) as database:
        user_id = await accounts.find_user_id(database, email)
        if user_id is None:
            return False
        actor = Actor(NO_ROW, "manage reset-second-factor", None, None)
        return await administration.remove_second_factor(database, actor, user_id)


@click.command()
def purge() -> None:
    """Delete what has expired: sessions, email tokens, counted attempts, events, jobs."""
    click.echo(f"{_run(_purge())} expired rows deleted.")


async def _purge() -> int:
    settings = Settings.load()
    async with open_database(settings) as database:
        return await housekeeping.purge(database, settings)


def _run(work: Coroutine[object, object, Result]) -> Result:
    """What cannot be done becomes one sentence."""
    try:
        return asyncio.run(work)
    except AppError as error:
        raise click.ClickException(str(error.detail)) from error


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """With one connection, for as long as a command runs."""
    configure_logging(settings, for_good=False)
    engine = create_engine(settings)
    database = Database(engine, 1, settings.database_pool_timeout_seconds)
    try:
        yield database
    finally:
        database.close()
        await engine.dispose()


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    prompt = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return str(prompt)


async def _create_admin(body: UserCreate) -> None:
    settings = Settings.load()
    async with open_database(settings) as database:
        hasher = PasswordHasher(settings)
        await service.register_user(database, hasher, body, role=Role.ADMIN, then=_audit)


async def _audit(session: AsyncSession, user: User) -> None:
    operator = Actor(NO_ROW, "manage create-admin", None, None)
    after = {"email": user.email, "role": user.role}
    session.add(entry(operator, "create-admin", user, after=after))
