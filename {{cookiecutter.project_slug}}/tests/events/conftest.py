"""The service with two workers, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from httpx2 import AsyncClient

from app.database import Database
from app.settings import Settings
from tests.events.clients import Reader, new_reader
from tests.servers import Gunicorn, running_gunicorn


@pytest.fixture(scope="module")
def gunicorn(settings: Settings, migrated: None) -> Iterator[Gunicorn]:
    limits = {"STREAMS_PER_USER_MAX": "3", "STREAMS_PER_WORKER_MAX": "100"}
    with running_gunicorn(settings, WEB_CONCURRENCY="2", **limits) as gunicorn:
        yield gunicorn


@pytest.fixture
async def http(gunicorn: Gunicorn) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=gunicorn.url, timeout=30) as client:
        yield client


@pytest.fixture
async def reader(http: AsyncClient) -> Reader:
    return await new_reader(http)


@pytest.fixture
def writer(committing_database: Database) -> Database:
    return committing_database
