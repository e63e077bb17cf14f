"""No request and no purge reads a large table from end to end."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from httpx2 import AsyncClient
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.accounts import sessions
from app.database import Database, create_engine
from app.events import repository as events
from app.lifespan import build_state
from app.main import create_app
from app.settings import Settings
from tests.conftest import PASSWORD, connect, empty_tables, execute, sign_up

pytestmark = pytest.mark.system

ROWS = 20_000
FILL = """
INSERT INTO app_user (id, email, password_hash)
    SELECT gen_random_uuid(), n || '@example.com', '' FROM generate_series(1, 20000) n;
INSERT INTO session (id, user_id, expires_at)
    SELECT gen_random_uuid(), id, now() + interval '1 day' FROM app_user;
INSERT INTO refresh_token (token_hash, session_id) SELECT sha256(id::text::bytea), id FROM session;
INSERT INTO email_token (token_hash, user_id, purpose, expires_at)
    SELECT sha256(id::text::bytea), id, 'verify', now() + interval '1 day' FROM app_user;
INSERT INTO throttle_bucket (key, attempts, forget_at, blocked_until)
    SELECT sha256(id::text::bytea), 1, now() + interval '1 day', now() FROM app_user;
INSERT INTO audit_entry (id, actor_id, actor_email, action, subject, subject_id)
    SELECT gen_random_uuid(), id, email, 'edit', 'app_user', id FROM app_user;
INSERT INTO item (id, owner_id, title) SELECT gen_random_uuid(), id, 'thing' FROM app_user;
INSERT INTO item_tag (item_id, name) SELECT id, 'tag' FROM item;
INSERT INTO event_head (owner_id, seq) SELECT id, 2 FROM app_user;
INSERT INTO event (owner_id, seq, kind, subject_id)
    SELECT owner_id, seq, 'item.created', id FROM item, generate_series(1, 2) seq
"""
SCANS = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE n_live_tup >= :rows"


@pytest.fixture
async def large_database(engine: AsyncEngine, settings: Settings) -> AsyncIterator[Database]:
    """As if in use for years; `engine` has made its tables."""
    await asyncio.to_thread(execute, str(settings.database_owner_url), *FILL.split(";"), "ANALYZE")
    own = create_engine(settings, 2)
    database = Database(own, 2, settings.database_pool_timeout_seconds)
    yield database
    database.close()
    await own.dispose()
    await asyncio.to_thread(empty_tables, settings)


async def count_scans(settings: Settings) -> dict[str, int]:
    engine = create_async_engine(str(settings.database_owner_url), poolclass=NullPool)
    async with engine.connect() as connection:
        rows = await connection.execute(text(SCANS), {"rows": ROWS})
        return {name: count for name, count in rows}


async def use_everything(client: AsyncClient, headers: dict[str, str]) -> None:
    login = {"username": "ada@example.com", "password": PASSWORD}
    tokens = (await client.post("/api/v1/auth/token", data=login)).json()
    await client.post("/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    body = {"title": "a", "tags": ["b"]}
    item = (await client.post("/api/v1/items", json=body, headers=headers)).json()["id"]
    for method, path, json in (
        ("GET", "users/me", None),
        ("PATCH", "users/me", {"full_name": "Ada"}),
        ("GET", "items?search=a&status=open", None),
        ("GET", f"items/{item}", None),
        ("PATCH", f"items/{item}", body),
        ("DELETE", f"items/{item}", None),
        ("GET", "auth/sessions", None),
        ("POST", "auth/password-reset/request", {"email": "7@example.com"}),
        ("POST", "users", {"email": "eve@example.com", "password": PASSWORD}),
        ("POST", "auth/logout-all", None),
    ):
        answer = await client.request(method, f"/api/v1/{path}", json=json, headers=headers)
        assert answer.is_success, answer.text


async def test_large_tables_are_read_by_their_indexes(
    large_database: Database, settings: Settings
) -> None:
    state = build_state(settings, large_database)
    ada = await sign_up(state, "ada@example.com")
    before = await count_scans(settings)
    async with connect(create_app(settings), state) as client:
        await use_everything(client, ada.headers)
    await sessions.purge(large_database, 100)
    await events.delete_old(large_database, timedelta(days=30), 100)
    await events.get_head(large_database, ada.id)
    await events.list_events(large_database, {ada.id: 0, uuid4(): 0}, 100)
    # A backend writes its counts down when it ends, and at most once a second before.
    large_database.close()
    await large_database._engine.dispose()
    assert len(before) == 10
    assert await count_scans(settings) == before
