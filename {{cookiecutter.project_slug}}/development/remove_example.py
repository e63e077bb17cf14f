"""`make remove-example`: takes away `app/items/`; what it leaves passes `make check test`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from development import DevelopmentError
from development.feature import MAIN, ROLES, VIEWS, new_migration
from development.source import remove_from

ROOT = Path(__file__).parent.parent
FOLDERS = ("app/items", "tests/items")
VIEW = "app/admin/views/items.py"
MODELS = "app/accounts/models.py"
# The example's own migrations stay: databases have run them, and going back must be possible.
MIGRATION = Path(__file__).parent / "remove_example_migration.txt"
NEXT = """
Next:
    1. make check test
    2. Where the service runs already, roll out this code first and `make migrate` afterwards:
       the code before it would still ask for the tables.
"""


def main() -> None:
    if not (ROOT / "app/items").exists():
        sys.exit("make remove-example: app/items is not here any more; nothing has been changed.")
    try:
        migration, text = new_migration(MIGRATION.read_text("utf-8"), "remove_items")
        changed = {path: change(read(path)) for path, change in CHANGES.items()}
    except (LookupError, DevelopmentError) as error:
        sys.exit(f"make remove-example: {error}; nothing has been changed.")
    changed[migration] = text
    for path, text in changed.items():
        (ROOT / path).write_text(text, encoding="utf-8")
    for folder in FOLDERS:
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    (ROOT / VIEW).unlink(missing_ok=True)
    subprocess.run(["ruff", "format", "--quiet", *changed], cwd=ROOT, check=True)
    for path in (*FOLDERS, VIEW, *changed):
        print(f"    {path}")
    print(NEXT)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def change_main(source: str) -> str:
    return without_lines(r"from app\.items ", remove_from(source, "ROUTERS", "items."))


def change_views(source: str) -> str:
    source = remove_from(source, "VIEWS", "ItemView")
    return without_lines(r"from app\.admin\.views\.items ", source)


def change_roles(source: str) -> str:
    for name in ("MEMBER", "SCOPES"):
        source = remove_from(source, name, "ITEMS_")
    return without_lines("ITEMS_", source)


def change_models(source: str) -> str:
    """The default of a session's scope."""
    return source.replace(" items:read items:write", "")


def without_lines(start: str, source: str) -> str:
    return re.sub(f"^{start}.*\n", "", source, flags=re.M)


CHANGES: dict[str, Callable[[str], str]] = {
    MAIN: change_main,
    VIEWS: change_views,
    ROLES: change_roles,
    MODELS: change_models,
}

if __name__ == "__main__":
    main()
