"""What the home page tells about migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app.admin.app import _newest_revision


@pytest.fixture(autouse=True)
def clean_cache() -> Iterator[None]:
    _newest_revision.cache_clear()
    yield
    _newest_revision.cache_clear()


async def test_home_page_tells_nothing_more_when_the_newest_migration_is_applied(
    admin: AsyncClient,
) -> None:
    page = (await admin.get("/admin/")).text
    assert ("Migration" in page, "newest migration" in page) == (True, False)


async def test_home_page_names_the_newest_migration_when_it_is_not_applied(
    admin: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations/versions"
    folder.mkdir(parents=True)
    for day, revision in enumerate(("older", "newer"), start=1):
        text = f'"""title"""\n\nrevision = "{revision}"\ndown_revision = "x"\n'
        (folder / f"2027_01_0{day}_title.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    page = (await admin.get("/admin/")).text
    assert "The newest migration of this code is newer." in page
