"""The newest migrations this code knows, for the home page; the files are read once."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

_SHOWN = 3


class Migration(NamedTuple):
    revision: str
    title: str
    is_applied: bool


def list_migrations(database_revision: str | None) -> Sequence[Migration]:
    """Newest first. A revision that this code does not know is of newer code: all are applied."""
    scripts = _scripts()
    revisions = [script.revision for script in scripts]
    # What stands behind it in the list came before it.
    applied = revisions.index(database_revision) if database_revision in revisions else 0
    if database_revision is None:
        applied = len(scripts)
    return [
        Migration(script.revision, script.doc, place >= applied)
        for place, script in enumerate(scripts[:_SHOWN])
    ]


@cache
def _scripts() -> Sequence[Script]:
    try:
        return list(ScriptDirectory.from_config(Config("alembic.ini")).walk_revisions())
    except CommandError:
        return []  # Started from another folder: the page says what the database says.
