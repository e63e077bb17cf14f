"""Lists of 100,000 rows: every page opens in under a second."""

import time
from collections.abc import Iterator

import pytest
from httpx2 import AsyncClient

from app.settings import Settings
from tests.conftest import empty_tables, execute

pytestmark = pytest.mark.system

SECONDS_MAX = 1
FILL = (
    "INSERT INTO app_user (id, email, password_hash)"
    " SELECT gen_random_uuid(), 'user' || n || '@example.com', 'x'"
    " FROM generate_series(1, 100000) n",
    "INSERT INTO session (id, user_id, expires_at)"
    " SELECT gen_random_uuid(), id, now() + interval '1 day' FROM app_user",
    "INSERT INTO audit_entry (id, actor_id, actor_email, action, subject, subject_id)"
    " SELECT gen_random_uuid(), id, email, 'change', 'app_user', id FROM app_user",
    "ANALYZE",
)
PAGES = (
    "",
    *(f"{table}/list" for table in ("user", "session", "audit-entry")),
    *(f"{table}/list?page=3999" for table in ("user", "session", "audit-entry")),
    "user/list?search=user777@",
    "user/list?search=nobody",
    "user/list?disabled=true",
    "user/list?sortBy=email&sort=desc",
    "session/list?search=user777@example.com",
    "audit-entry/list?search=user777@example.com",
    "user/export/csv",
    "session/export/csv",
)


@pytest.fixture
def many_rows(settings: Settings, migrated: None) -> Iterator[None]:
    """With the statistics that plans depend on, which their owner alone may make."""
    execute(str(settings.database_owner_url), *FILL)
    yield
    empty_tables(settings)


@pytest.mark.usefixtures("many_rows")
async def test_list_opens_within_a_second_when_it_has_many_rows(admin: AsyncClient) -> None:
    slow = {}
    for page in PAGES:
        # Noise spoils one; what is slow is so each time.
        seconds = [await _seconds_of(admin, page) for _ in range(3)]
        if min(seconds) >= SECONDS_MAX:
            slow[page] = seconds
    assert slow == {}


async def _seconds_of(admin: AsyncClient, page: str) -> float:
    started_at = time.perf_counter()
    response = await admin.get(f"/admin/{page}")
    assert response.status_code == 200
    return time.perf_counter() - started_at
