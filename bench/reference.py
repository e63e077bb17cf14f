"""What the service is compared with: a bare FastAPI route, and the least a signed-in read can cost.

It runs in the environment of a generated service, under its gunicorn.conf.py.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException, Request
from jose import jwk, jws

from app.settings import Settings


async def _no_reset(_connection: object) -> None:
    """asyncpg would send a statement each time a connection comes back."""


def create_app() -> FastAPI:
    settings = Settings.load()
    key = jwk.construct(settings.secret_key.get_secret_value(), "HS256")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = str(settings.database_url).replace("+asyncpg", "")
        app.state.pool = await asyncpg.create_pool(url, min_size=2, max_size=2, reset=_no_reset)
        yield
        await app.state.pool.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/bare")
    async def bare() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/read")
    async def read(request: Request) -> dict[str, str]:
        token = request.headers["authorization"].removeprefix("Bearer ")
        claims = jws.verify(token, key, ["HS256"])
        row = await app.state.pool.fetchrow(
            "SELECT email FROM app_user WHERE id = $1", json.loads(claims)["sub"]
        )
        if row is None:
            raise HTTPException(401)
        return {"email": row["email"]}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app
