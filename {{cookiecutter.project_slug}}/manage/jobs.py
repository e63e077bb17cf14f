"""`manage work`: the process that runs the jobs."""

import click

from app import housekeeping, main  # noqa: F401 (they import every domain, and with it every task)
from app.jobs import process
from app.settings import Settings
from server.settings import ServerSettings


@click.command()
def work() -> None:
    """Run the jobs, until it is told to end."""
    process.run(Settings.load(), ServerSettings.load())
