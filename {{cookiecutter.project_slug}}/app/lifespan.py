"""The only start and stop code: makes what a worker shares, hands it to requests, closes it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

from app.accounts.common_passwords import common_passwords
from app.accounts.email_links.service import EmailLinks, build_email_links
from app.accounts.passwords import Passwords
from app.accounts.tokens import TokenKeys, build_token_keys
from app.database import Database
from app.engine import create_engine
from app.logs import configure_logging
from app.mail import build_mailer
from app.server.capacity import plan_pool_size
from app.server.drain import Drain
from app.settings import Settings


class State(TypedDict):
    """Found in `request.state`; requests reach it through the dependencies."""

    settings: Settings
    database: Database
    passwords: Passwords
    token_keys: TokenKeys
    drain: Drain
    email_links: EmailLinks


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[State]]


def build_lifespan(settings: Settings) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        configure_logging(settings)
        common_passwords()
        # No query here: a worker that is recycled while the database is away must still start.
        # gunicorn's master sets DATABASE_POOL_SIZE; without it this process is the only worker.
        pool_size = plan_pool_size(settings, workers=1)
        engine = create_engine(settings, pool_size)
        try:
            database = Database(engine, pool_size, settings.database_pool_wait_seconds)
            yield build_state(settings, database)
        finally:
            await engine.dispose()

    return lifespan


def build_state(settings: Settings, database: Database) -> State:
    return State(
        settings=settings,
        database=database,
        passwords=Passwords(settings),
        token_keys=build_token_keys(settings),
        drain=Drain(),
        email_links=build_email_links(settings, build_mailer(settings)),
    )
