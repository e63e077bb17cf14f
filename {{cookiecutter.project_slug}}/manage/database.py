"""`manage migrate`, and `manage database`, which starts and stops a developer's PostgreSQL."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

import click
from dotenv import dotenv_values

if TYPE_CHECKING:
    from alembic.config import Config

    from app.settings import Settings


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail when a migration is missing.")
def migrate(check: bool) -> None:
    """Bring the database to the newest revision; safe to run many times at once."""
    # Slow to import; `manage database start` does without.
    from alembic.config import Config  # noqa: PLC0415

    from app.settings import Settings  # noqa: PLC0415
    from server.logs import configure_logging  # noqa: PLC0415

    settings = _as_owner(Settings.load())
    configure_logging(settings)
    configuration = Config("alembic.ini")
    configuration.attributes["settings"] = settings
    try:
        _migrate(configuration, check)
    except TimeoutError as error:
        raise click.ClickException("Another migration holds the lock.") from error
    except OSError as error:
        raise click.ClickException(f"The database cannot be reached: {error}") from error
    # Beside Alembic's lines, not a sentence between lines of JSON.
    logging.getLogger("manage").info("The database is at the newest revision.")


def _as_owner(settings: "Settings") -> "Settings":
    """The development database has a role of its own for this, which no setting names."""
    if settings.database_owner_url or not find_spec("development"):
        return settings
    with _launcher() as postgres:
        owner = postgres.owner_address(str(settings.database_url))
    return settings.model_copy(update={"database_owner_url": owner})


def _migrate(configuration: "Config", check: bool) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    if not check:
        command.upgrade(configuration, "head")
        return
    try:
        command.current(configuration, check_heads=True)
    except CommandError as error:
        # As it was called: in an image it is on the PATH, elsewhere in .venv/bin.
        sentence = f"The database is not at the newest revision: run `{sys.argv[0]} migrate`."
        raise click.ClickException(sentence) from error


@click.group()
def database() -> None:
    """The development database: used when DATABASE_URL is not set."""


@database.command()
def start() -> None:
    """Start it if it is not running."""
    if os.environ.get("DATABASE_URL") or dotenv_values(".env").get("DATABASE_URL"):
        click.echo("DATABASE_URL is set; nothing to start.")
        return
    with _launcher() as postgres:
        postgres.start()
    click.echo("The development database is running.")


@database.command()
def stop() -> None:
    """Stop it."""
    with _launcher() as postgres:
        postgres.stop()


@database.command()
@click.option("--owner", is_flag=True, help="Of the role that owns the tables.")
def url(owner: bool) -> None:
    """Print the address that the service uses."""
    from app.settings import Settings  # noqa: PLC0415

    settings = Settings.load()
    settings = _as_owner(settings) if owner else settings
    address = (settings.database_owner_url if owner else None) or settings.database_url
    click.echo(str(address))


@contextmanager
def _launcher() -> Iterator[ModuleType]:
    """What it cannot do becomes one sentence."""
    try:
        postgres = importlib.import_module("development.postgres")
    except ImportError as error:
        sentence = "The development database is not in the image: set DATABASE_URL."
        raise click.ClickException(sentence) from error
    try:
        yield postgres
    except postgres.DevelopmentError as error:
        raise click.ClickException(str(error)) from error
