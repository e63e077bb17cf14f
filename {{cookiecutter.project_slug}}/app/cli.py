"""`manage`: what operators and the Makefile call; runs in the image as well."""

import asyncio
import importlib
import os
import sys
from types import ModuleType

import click
from alembic import command
from alembic.config import Config
from dotenv import dotenv_values
from pydantic import ValidationError

from app.accounts import commands, service
from app.accounts.passwords import Passwords
from app.accounts.schemas import UserCreate
from app.database import Database
from app.engine import create_engine
from app.errors import AppError
from app.logs import configure_logging
from app.settings import describe, load_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Manage this service."""


main.add_command(commands.keys)
main.add_command(commands.purge)


@main.command()
def migrate() -> None:
    """Bring the database to the newest revision; safe to run many times at once."""
    settings = load_settings()
    configure_logging(settings)
    configuration = Config("alembic.ini")
    configuration.attributes["settings"] = settings
    try:
        command.upgrade(configuration, "head")
    except TimeoutError as error:
        raise click.ClickException("Another migration holds the lock.") from error
    except OSError as error:
        raise click.ClickException(f"The database cannot be reached: {error}") from error
    click.echo("The database is at the newest revision.")


@main.command()
@click.option("--email", prompt=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_admin(email: str, password_stdin: bool) -> None:
    """Create a user who may use the admin app."""
    password = _read_password(password_stdin)
    try:
        body = UserCreate.model_validate({"email": email, "password": password})
    except ValidationError as error:
        raise click.ClickException(describe(error)) from error
    try:
        asyncio.run(_create_admin(body))
    except AppError as error:
        raise click.ClickException(str(error.detail)) from error
    click.echo(f"{body.email} may log in at /admin.")


@main.group()
def database() -> None:
    """The development database: used when DATABASE_URL is not set."""


@database.command()
def start() -> None:
    """Start it if it is not running."""
    if os.environ.get("DATABASE_URL") or dotenv_values(".env").get("DATABASE_URL"):
        click.echo("DATABASE_URL is set; nothing to start.")
        return
    click.echo(_launcher().start())


@database.command()
def stop() -> None:
    """Stop it."""
    _launcher().stop()


@database.command()
def url() -> None:
    """Print the address that the service uses."""
    click.echo(str(load_settings().database_url))


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    prompt = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return str(prompt)


async def _create_admin(body: UserCreate) -> None:
    settings = load_settings()
    engine = create_engine(settings)
    connection = Database(engine, 1, settings.database_pool_wait_seconds)
    try:
        await service.register_user(connection, Passwords(settings), body, is_admin=True)
    finally:
        await engine.dispose()


def _launcher() -> ModuleType:
    try:
        return importlib.import_module("development.postgres")
    except ImportError as error:
        sentence = "The development database is not in the image: set DATABASE_URL."
        raise click.ClickException(sentence) from error
