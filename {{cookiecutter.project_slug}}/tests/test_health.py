"""Probes."""

from collections.abc import Mapping, Sequence
from typing import TypeVarTuple

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database import Database, create_engine
from app.lifespan import State, build_state
from app.settings import Settings
from tests.conftest import connect

Columns = TypeVarTuple("Columns")


class UntouchableDatabase(Database):
    def __init__(self) -> None:
        pass

    async def read_all(
        self,
        statement: TypedReturnsRows[*Columns],
        parameters: Mapping[str, object] | None = None,
    ) -> Sequence[tuple[*Columns]]:
        pytest.fail(f"the database was asked: {statement} {parameters}")


async def test_livez_answers_without_the_database(app: FastAPI, settings: Settings) -> None:
    async with connect(app, build_state(settings, UntouchableDatabase())) as client:
        response = await client.get("/livez")
    assert response.status_code == 200


async def test_readyz_is_ok_when_a_query_is_answered(client: AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.json() == {"status": "ok"}


async def test_readyz_is_503_when_the_database_is_away(app: FastAPI, settings: Settings) -> None:
    # Port 9 is the discard service: nobody listens.
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/none"})
    engine = create_engine(nowhere)
    async with connect(app, build_state(settings, Database(engine, 1, 1))) as client:
        response = await client.get("/readyz")
    await engine.dispose()
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "retry-after" in response.headers


async def test_readyz_is_503_when_the_worker_is_leaving(client: AsyncClient, state: State) -> None:
    state["drain"].begin(stopping=True)
    assert (await client.get("/readyz")).status_code == 503


async def test_version_tells_what_runs(client: AsyncClient, settings: Settings) -> None:
    response = await client.get("/version")
    assert response.json() == {
        "name": settings.service_name,
        "version": settings.service_version,
        "git_revision": None,
    }


@pytest.mark.parametrize(("environment", "told"), [("production", None), ("test", "abc123")])
async def test_version_hides_the_revision_when_in_production(
    app: FastAPI, state: State, environment: str, told: str | None
) -> None:
    values = {"environment": environment, "git_revision": "abc123"}
    state["settings"] = state["settings"].model_copy(update=values)
    async with connect(app, state) as client:
        assert (await client.get("/version")).json()["git_revision"] == told
