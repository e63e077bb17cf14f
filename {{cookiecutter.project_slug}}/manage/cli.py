"""`manage`: what operators and the Makefile call; runs in the image as well."""

import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import click
from alembic import command as alembic
from alembic.config import Config
from alembic.util import CommandError
from dotenv import dotenv_values

from app.settings import Settings
from manage import accounts
from server.capacity import plan_capacity
from server.logs import configure_logging
from server.machine import read_machine
from server.settings import ServerSettings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Manage this service."""


for command in (accounts.create_admin, accounts.keys, accounts.purge):
    main.add_command(command)


@main.command()
@click.option("--check", is_flag=True, help="Change nothing; fail when a migration is missing.")
def migrate(check: bool) -> None:
    """Bring the database to the newest revision; safe to run many times at once."""
    settings = Settings.load()
    configure_logging(settings)
    configuration = Config("alembic.ini")
    configuration.attributes["settings"] = settings
    try:
        _migrate(configuration, check)
    except TimeoutError as error:
        raise click.ClickException("Another migration holds the lock.") from error
    except OSError as error:
        raise click.ClickException(f"The database cannot be reached: {error}") from error
    click.echo("The database is at the newest revision.")


def _migrate(configuration: Config, check: bool) -> None:
    if not check:
        alembic.upgrade(configuration, "head")
        return
    try:
        alembic.current(configuration, check_heads=True)
    except CommandError as error:
        # As it was called: in an image it is on the PATH, elsewhere in .venv/bin.
        sentence = f"The database is not at the newest revision: run `{sys.argv[0]} migrate`."
        raise click.ClickException(sentence) from error


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def capacity(as_json: bool) -> None:
    """Show how many workers and connections there will be, and why."""
    settings = ServerSettings.load()
    plan = plan_capacity(settings, read_machine(), settings.web_concurrency)
    if as_json:
        click.echo(json.dumps(asdict(plan), indent=2))
        return
    click.echo(f"workers      {plan.workers}")
    click.echo(f"pool size    {plan.pool_size}")
    click.echo(f"connections  {plan.connections} of {plan.connection_budget}")
    for reason in plan.reasons:
        click.echo(f"- {reason}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Check settings, files, database and kernel against each other; 1 when something is wrong."""
    if os.environ.get("WEB_CONCURRENCY") == "":
        raise click.ClickException("WEB_CONCURRENCY is empty: unset it or write a number.")
    # Its parsers cost every other command 0.3 s.
    from doctor.examine import examine, invalid_settings  # noqa: PLC0415
    from doctor.settings import AllSettings  # noqa: PLC0415

    try:
        findings = examine(Path.cwd(), AllSettings.load())
    except SystemExit as error:
        findings = [invalid_settings(str(error))]
    counts = Counter(str(finding.severity) for finding in findings)
    if as_json:
        report = {
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [asdict(finding) for finding in findings],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
        click.echo(f"{counts['error']} errors, {counts['warning']} warnings.")
    sys.exit(1 if counts["error"] else 0)


@main.group()
def database() -> None:
    """The development database: used when DATABASE_URL is not set."""


@database.command()
def start() -> None:
    """Start it if it is not running."""
    if os.environ.get("DATABASE_URL") or dotenv_values(".env").get("DATABASE_URL"):
        click.echo("DATABASE_URL is set; nothing to start.")
        return
    with _one_sentence():
        _launcher().start()
    click.echo("The development database is running.")


@database.command()
def stop() -> None:
    """Stop it."""
    with _one_sentence():
        _launcher().stop()


@database.command()
def url() -> None:
    """Print the address that the service uses."""
    click.echo(str(Settings.load().database_url))


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except _launcher().PostgresError as error:
        raise click.ClickException(str(error)) from error


def _launcher() -> ModuleType:
    try:
        return importlib.import_module("development.postgres")
    except ImportError as error:
        sentence = "The development database is not in the image: set DATABASE_URL."
        raise click.ClickException(sentence) from error
