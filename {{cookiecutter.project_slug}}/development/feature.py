"""`make feature NAME=parcels`: a new domain with its routes, table, tests and admin page.

The files come from `feature_files/`, where it is called `thing`; a name in braces is for people.
"""

import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from development import DevelopmentError
from development.source import add_constants, add_import, append_to

ROOT = Path(__file__).parent.parent
FILES = Path(__file__).parent / "feature_files"
MAIN, ROLES, VIEWS = "app/main.py", "app/accounts/roles.py", "app/admin/views/__init__.py"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# "fk_" + table + "_owner_id_app_user" must fit into the 63 bytes of a name in PostgreSQL.
NAME_CHARACTERS_MAX = 40
# box(es), category (categories), movie(s): nobody can tell by the letters.
AMBIGUOUS = re.compile(r"(i|s|x|z|ch|sh|o|v)es$")
NEXT = """
Next:
    1. Give it the columns it needs: docs/recipes/feature.md says where.
    2. make migrate
    3. make check test
"""


@dataclass(frozen=True)
class Feature:
    """`delivery_slots` and `delivery_slot`, in all the ways a feature is called."""

    plural: str
    singular: str

    @property
    def class_name(self) -> str:
        return "".join(word.capitalize() for word in self.singular.split("_"))

    def rename(self, text: str) -> str:
        names = {
            "{things}": self.plural.replace("_", " "),
            "{Things}": self.plural.replace("_", " ").capitalize(),
            "{thing}": self.singular.replace("_", " "),
            # With the quote it is a path of the service, not one of a file.
            '/things"': f'/{self.plural.replace("_", "-")}"',
            "THINGS": self.plural.upper(),
            "THING": self.singular.upper(),
            "Thing": self.class_name,
            "things": self.plural,
            "thing": self.singular,
        }
        return re.sub("|".join(names), lambda found: names[found[0]], text)


def main() -> None:
    try:
        feature = name_feature(*sys.argv[1:])
        # All of it is made before any of it is written, so that a refusal leaves nothing behind.
        written = {**new_files(feature), **changed_files(feature)}
    except DevelopmentError as error:
        sys.exit(f"make feature: {error}")
    for path, text in written.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    # Names differ in length and in the alphabet, so lines and imports have to find their places.
    for command in (["check", "--fix-only"], ["format"]):
        subprocess.run(["ruff", *command, "--quiet", *written], cwd=ROOT, check=True)
    for path in written:
        print(f"    {path}")
    print(NEXT)


def name_feature(plural: str = "", singular: str = "") -> Feature:
    if not NAME.fullmatch(plural) or not NAME.fullmatch(singular or "x"):
        raise DevelopmentError(
            f"NAME={plural!r} must be lowercase words with _ between them, as in delivery_slots."
        )
    if len(plural) > NAME_CHARACTERS_MAX:
        raise DevelopmentError(f"{plural} is too long: {NAME_CHARACTERS_MAX} characters at most.")
    feature = Feature(plural, singular or singular_of(plural))
    if feature.singular == plural:
        raise DevelopmentError(f"{plural} is both plural and singular; the code needs two words.")
    for name in (feature.singular, plural, feature.class_name):
        if reason := reason_against(name):
            raise DevelopmentError(f"{name} cannot be its name: {reason}.")
    return feature


def singular_of(plural: str) -> str:
    if AMBIGUOUS.search(plural) or not re.search(r"[^ius]s$", plural):
        raise DevelopmentError(
            f"the singular of {plural} is not clear: make feature NAME={plural} SINGULAR=…"
        )
    return plural.removesuffix("s")


def reason_against(name: str) -> str | None:
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "it is a keyword of Python"
    if name in RESERVED_WORDS:
        return "it is a reserved word of SQL"
    if (ROOT / "app" / name).exists() or (ROOT / "app" / f"{name}.py").exists():
        return f"app/{name} is there already, and nothing has been changed"
    if name in set(names_of_tables()):
        return "the service has a table or a model of that name"
    if name in set(names_in_files()):
        return "the files of a feature use that word for something else"
    return None


def names_of_tables() -> Iterator[str]:
    for path in (ROOT / "app").rglob("models.py"):
        source = path.read_text(encoding="utf-8")
        yield from re.findall(r"^class (\w+)", source, re.M)
        yield from re.findall(r'__tablename__ = "(\w+)"', source)


def names_in_files() -> Iterator[str]:
    for path in FILES.rglob("*.py"):
        source = io.StringIO(path.read_text(encoding="utf-8"))
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.NAME:
                yield token.string


def new_files(feature: Feature) -> Mapping[str, str]:
    files = {}
    for path in sorted(FILES.rglob("*.py")):
        name = feature.rename(path.relative_to(FILES).as_posix())
        files[name] = feature.rename(path.read_text(encoding="utf-8"))
        if (ROOT / name).exists():
            raise DevelopmentError(f"{name} is there already, and nothing has been changed.")
    migration = files.pop(f"migrations/versions/{feature.plural}.py")
    name, text = new_migration(migration, feature.plural)
    files[name] = text
    return files


def new_migration(text: str, slug: str) -> tuple[str, str]:
    """The path and the text of the next migration."""
    former, revision, now = *revisions(), datetime.now(UTC)
    names = {"DOWN_REVISION": former, "REVISION": revision, "MADE_AT": now.isoformat(" ")}
    for placeholder, name in names.items():
        text = text.replace(placeholder, name)
    return f"migrations/versions/{now:%Y_%m_%d}_{revision}_{slug}.py", text


def revisions() -> tuple[str, str]:
    """The newest one and the next; the files tell, no database is asked."""
    scripts = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    try:
        head = scripts.get_current_head()
    except CommandError as error:
        raise DevelopmentError(
            "the migrations have two heads: join them with alembic merge."
        ) from error
    ids = [script.revision for script in scripts.walk_revisions()]
    number = 1 + max((int(name) for name in ids if name.isdigit()), default=0)
    return head or "", f"{number:04}"


def changed_files(feature: Feature) -> Mapping[str, str]:
    """Where a feature is made known: its routes, its scopes, its pages in the admin app."""
    main, roles, views = ((ROOT / path).read_text("utf-8") for path in (MAIN, ROLES, VIEWS))
    read, write, prose = map(feature.rename, ("THINGS_READ", "THINGS_WRITE", "{things}"))
    try:
        main = add_import(main, feature.rename("from app.things import router as things"))
        views = add_import(views, feature.rename("from app.admin.views.things import ThingView"))
        roles = add_constants(
            roles,
            (f'{read} = "{feature.plural}:read"', f'{write} = "{feature.plural}:write"'),
        )
        roles = append_to(roles, "MEMBER", read, write)
        texts = (f'"Read {prose}."', f'"Create, change and delete {prose}."')
        return {
            MAIN: append_to(main, "ROUTERS", f"{feature.plural}.router"),
            ROLES: append_to(roles, "SCOPES", f"{read}: {texts[0]}", f"{write}: {texts[1]}"),
            VIEWS: append_to(views, "VIEWS", f"{feature.class_name}View"),
        }
    except LookupError as error:
        raise DevelopmentError(f"{error}; nothing has been changed.") from error


if __name__ == "__main__":
    main()
