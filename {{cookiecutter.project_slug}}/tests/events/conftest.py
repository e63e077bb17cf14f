"""The service with two workers, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from httpx2 import AsyncClient

from app.database import Database
from app.settings import Settings
from tests.events.clients import Reader, new_reader
from tests.servers import running_service


@pytest.fixture(scope="module")
def service_url(settings: Settings, migrated: None) -> Iterator[str]:
    limits = {"STREAMS_PER_USER_MAX": "3", "STREAMS_PER_WORKER_MAX": "100"}
    with running_service(settings, WEB_CONCURRENCY="2", **limits) as url:
        yield url


@pytest.fixture
async def http(service_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=service_url, timeout=30) as client:
        yield client


@pytest.fixture
async def reader(http: AsyncClient) -> Reader:
    return await new_reader(http)


@pytest.fixture
def writer(committing_database: Database) -> Database:
    return committing_database
