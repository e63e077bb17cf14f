"""`manage`: the commands of operators and of the Makefile; in the image as well."""

from importlib import import_module
from importlib.util import find_spec

import click

# Imported when one of them is called: together they take ten times as long as any of them.
_COMMANDS = {
    "capacity": "manage.checks",
    "create-admin": "manage.accounts",
    "database": "manage.database",
    "doctor": "manage.checks",
    "keys": "manage.keys",
    "migrate": "manage.database",
    "purge": "manage.accounts",
    "reset-second-factor": "manage.accounts",
    "top": "manage.top",
    "work": "manage.jobs",
}
_IMAGE = (
    "This is the image: `database` is not available, and `doctor` does not check the files of the"
    " deployment; both work in a checkout."
)


class Commands(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[name]), name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=None if find_spec("development") else _IMAGE,
)
def main() -> None:
    """Manage this service."""
