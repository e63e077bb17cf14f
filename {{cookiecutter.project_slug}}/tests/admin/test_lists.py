"""Lists of 100,000 rows: every page opens in under a second."""

import time

import pytest
from httpx2 import AsyncClient
from sqlalchemy import text

from app.lifespan import State

pytestmark = pytest.mark.system

SECONDS_MAX = 1
ROWS, ROWS_AT_ONCE = 100_000, 10_000
# Rolled back at the end of a test, like everything else it writes.
FILL = text("""
WITH users AS (
    INSERT INTO app_user (id, email, password_hash)
    SELECT gen_random_uuid(), 'user' || n || '@example.com', 'x'
    FROM generate_series(cast(:first AS int), :first + :count - 1) n RETURNING id, email
), sessions AS (
    INSERT INTO session (id, user_id, expires_at)
    SELECT gen_random_uuid(), id, now() + interval '1 day' FROM users
)
INSERT INTO audit_entry (id, actor_id, actor_email, action, subject, subject_id)
SELECT gen_random_uuid(), id, email, 'change', 'app_user', id FROM users
""")
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


async def test_list_opens_within_a_second_when_it_has_many_rows(
    admin: AsyncClient, state: State
) -> None:
    async with state["database"].transaction() as session:
        # Each statement within the time that one may take, on a busy machine too.
        for first in range(1, ROWS, ROWS_AT_ONCE):
            await session.execute(FILL, {"first": first, "count": ROWS_AT_ONCE})
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
