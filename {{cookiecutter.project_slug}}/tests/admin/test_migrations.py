"""What the home page tells about migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.admin import migrations
from app.admin.migrations import list_migrations

FILE = (
    '"""title of {0}\n\nRevision: {0}\n"""\n\nimport x\n\nrevision = "{0}"\ndown_revision = "?"\n'
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of a service with four migrations."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    for number, revision in enumerate("abcd"):
        (versions / f"2026_01_0{number}_{revision}.py").write_text(FILE.format(revision))
    monkeypatch.chdir(tmp_path)
    migrations._files.cache_clear()
    yield
    migrations._files.cache_clear()


@pytest.mark.parametrize(
    ("database_revision", "applied"),
    [
        ("d", [True, True, True]),
        ("b", [False, False, True]),
        ("a", [False, False, False]),
        (None, [False, False, False]),
        ("of newer code", [True, True, True]),
    ],
)
def test_newest_migrations_are_listed_with_whether_they_are_applied(
    database_revision: str | None, applied: list[bool]
) -> None:
    listed = list_migrations(database_revision)
    assert [migration.revision for migration in listed] == ["d", "c", "b"]
    assert [migration.is_applied for migration in listed] == applied
    assert listed[0].title == "title of d"
