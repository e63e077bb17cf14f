"""The newest migrations this code has, for the home page; their files are read once."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

# Alembic would import them all, and log a dozen lines when it is imported itself.
# Relative to where the service starts, as alembic.ini has it; the names begin with the date.
_FOLDER = Path("migrations/versions")
_FILE = re.compile(
    r'''"""(?P<title>.+?)$.*?^revision = "(?P<revision>\w+)"''', re.DOTALL | re.MULTILINE
)
_SHOWN = 3


class Migration(NamedTuple):
    revision: str
    title: str
    is_applied: bool


def list_migrations(database_revision: str | None) -> Sequence[Migration]:
    """Newest first. A revision that this code does not know is of newer code: all are applied."""
    files = _files()
    revisions = [revision for revision, _ in files]
    applied_from = revisions.index(database_revision) if database_revision in revisions else 0
    return [
        Migration(revision, title, place >= applied_from and database_revision is not None)
        for place, (revision, title) in enumerate(files[:_SHOWN])
    ]


@cache
def _files() -> Sequence[tuple[str, str]]:
    texts = (path.read_text("utf-8") for path in sorted(_FOLDER.glob("*.py"), reverse=True))
    found = (_FILE.match(text) for text in texts)
    return [(match["revision"], match["title"].strip()) for match in found if match]
