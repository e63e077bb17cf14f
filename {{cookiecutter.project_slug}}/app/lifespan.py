"""The only start and stop code: makes what a worker shares, hands it to requests, closes it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

from app.accounts.authentication import Authenticator
from app.accounts.passwords import PasswordHasher, common_passwords
from app.accounts.tokens import TokenKeys, build_token_keys
from app.database import Database, close_engine, create_engine
from app.events.hub import Hub
from app.metrics import DEADLINES_MISSED, INFO, SECURITY_EVENTS
from app.security_events import SecurityEvent, record_event
from app.settings import Settings
from app.telemetry import running_telemetry
from server.capacity import POOL_SIZE_MAX
from server.graceful import Drain
from server.logs import configure_logging


class State(TypedDict):
    """Found in `request.state`; requests reach it through the dependencies."""

    settings: Settings
    database: Database
    authenticator: Authenticator
    token_keys: TokenKeys
    drain: Drain
    hub: Hub
    # Called every second by the worker (server/vitals.py).
    measure: Callable[[], None]


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[State]]


def build_lifespan(settings: Settings) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        async with running_telemetry(settings) as report:
            configure_logging(settings, report)
            common_passwords()
            async with _running_database(settings) as database:
                state = build_state(settings, database)
                async with state["hub"].run():
                    yield state

    return lifespan


@asynccontextmanager
async def _running_database(settings: Settings) -> AsyncIterator[Database]:
    # No query here: a worker that is recycled while the database is away must still start.
    # gunicorn.conf.py plans DATABASE_POOL_SIZE; without gunicorn this is the only worker.
    pool_size = settings.database_pool_size or POOL_SIZE_MAX
    engine = create_engine(settings, pool_size)
    database = Database(engine, pool_size, settings.database_pool_timeout_seconds)
    try:
        yield database
    finally:
        database.close()
        await close_engine(engine)


def build_state(settings: Settings, database: Database) -> State:
    # A rotation is seen here: a line of every worker that knows the new ring.
    kids = [key.kid for key in settings.token_key_ring]
    record_event(SecurityEvent.TOKEN_KEYS_LOADED, signs=kids[0], verify=kids)
    drain = Drain()
    hasher = PasswordHasher(settings)

    # An alert sees what is added to a counter, not where it began.
    DEADLINES_MISSED.add(0)
    SECURITY_EVENTS.add(0, SecurityEvent.REFRESH_TOKEN_REUSED, "")
    INFO.set(1, settings.service_version, settings.git_revision or "")

    def measure() -> None:
        database.measure()
        hasher.measure()

    return State(
        settings=settings,
        database=database,
        authenticator=Authenticator(database, hasher, settings),
        token_keys=build_token_keys(settings),
        drain=drain,
        hub=Hub(database, settings, drain),
        measure=measure,
    )
