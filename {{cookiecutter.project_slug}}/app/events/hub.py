"""Hands the events of the database to the streams of this worker; one LISTEN wakes it up."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast
from uuid import UUID

import asyncpg
import structlog

from app.accounts import repository as accounts
from app.accounts.roles import EVENTS_READ
from app.announcements import ACCOUNT, EVENTS
from app.database import ConnectError, Database, close_engine, create_engine
from app.errors import AppError, TooManyRequestsError, UnavailableError

# Its listeners hear when sessions end, even in a service where no table is followed.
from app.events import (
    recording,  # noqa: F401
    repository,
)
from app.events.streams import (
    LEAVING,
    PAGE_ROWS,
    SESSION_ENDED,
    Follower,
    Stream,
    read_position,
)
from app.settings import Settings
from server.graceful import Drain

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

CHANNEL = "announcements"
# A lost NOTIFY costs this long, an account's lost one the second: a killed worker can lose some.
POLL_SECONDS = 5
CHECK_ACCOUNTS_SECONDS = 30
# Commits within this time share one NOTIFY: at 32 writers one in each commit cost 70 % of them.
BATCH_SECONDS = 0.01
# 8000 bytes are too long; an announcement has 44 at most.
# https://www.postgresql.org/docs/current/sql-notify.html
ANNOUNCEMENTS_PER_NOTIFY = 150
# A connection on which nothing comes back looks like one on which nothing happens.
PROBE_SECONDS = 10
PROBE_WITHIN_SECONDS = 5
RETRY_SECONDS_MAX = 10

_LOST = (AppError, asyncpg.PostgresError, asyncpg.InterfaceError, ConnectError, OSError)


class Feed:
    """The streams of one user here, and the number of the last event that they were given."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.streams: set[Stream] = set()


class Hub:
    def __init__(self, database: Database, settings: Settings, drain: Drain) -> None:
        self._database = database
        self._settings = settings
        self._drain = drain
        self._feeds: dict[UUID, Feed] = {}
        self._count = 0
        self._news: set[UUID] = set()
        self._suspects: set[UUID] = set()
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """None of it ever ends the worker: a database that is away is tried again."""
        jobs = (self._listen, self._tell, self._deliver, self._poll, self._leave)
        tasks = [asyncio.create_task(_repeat(job)) for job in jobs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            # A logout that was committed last.
            if taken := self._database.announcements.take():
                with suppress(AppError):
                    await self._notify(taken)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """A place for a stream, whoever it will belong to."""
        if self._count >= self._settings.streams_per_worker_max:
            raise UnavailableError("This service has too many open streams.", 5)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @asynccontextmanager
    async def follow(self, follower: Follower, last_event_id: str | None) -> AsyncIterator[Stream]:
        user_id = follower.user_id
        head = await repository.get_head(self._database, user_id)
        position = read_position(head, last_event_id)
        feed = self._feeds.setdefault(user_id, Feed(head.seq))
        if len(feed.streams) >= self._settings.streams_per_user_max:
            raise TooManyRequestsError("You have too many open streams.", 5)
        stream = Stream(self._database, follower, head, position, max(feed.seq, position))
        feed.streams.add(stream)
        if self._drain.leaving.is_set():
            stream.finish(LEAVING)
        # What was committed since the head was read, and a logout before the stream was known.
        self._wake(news={user_id}, suspects={user_id})
        try:
            yield stream
        finally:
            feed.streams.discard(stream)
            if not feed.streams:
                self._feeds.pop(user_id, None)

    def _wake(self, *, news: set[UUID], suspects: set[UUID]) -> None:
        self._news |= news & self._feeds.keys()
        self._suspects |= suspects & self._feeds.keys()
        self._woken.set()

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard: dict[str, set[UUID]] = {EVENTS: set(), ACCOUNT: set()}
        for announcement in str(payload).split():
            kind, _, user_id = announcement.partition(":")
            heard.setdefault(kind, set()).add(UUID(user_id))
        self._wake(news=heard[EVENTS], suspects=heard[ACCOUNT])

    async def _listen(self) -> None:
        """On a connection of its own: it is open for as long as the worker lives."""
        settings = self._settings
        if settings.database_pgbouncer and settings.database_listen_url is None:
            # Behind it LISTEN succeeds and nothing ever comes; `_poll` goes on.
            await asyncio.Event().wait()
        url = settings.database_listen_url or settings.database_url
        direct = settings.model_copy(update={"database_url": url, "database_pgbouncer": False})
        engine = create_engine(direct)
        try:
            pooled = await engine.raw_connection()
            driver = cast("asyncpg.Connection[asyncpg.Record]", pooled.driver_connection)
            try:
                await self._listen_on(driver)
            finally:
                driver.terminate()
                pooled.invalidate()
        finally:
            await close_engine(engine)

    async def _listen_on(self, driver: "asyncpg.Connection[asyncpg.Record]") -> None:
        closed = asyncio.Event()
        driver.add_termination_listener(lambda _connection: closed.set())
        await driver.add_listener(CHANNEL, self._hear)
        # What was announced while nobody listened.
        self._wake(news={*self._feeds}, suspects={*self._feeds})
        while not closed.is_set():
            await driver.fetchval("SELECT 1", timeout=PROBE_WITHIN_SECONDS)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await closed.wait()
            except TimeoutError:
                continue
        raise ConnectionResetError("The connection that listens was closed.")

    async def _tell(self) -> None:
        announcements = self._database.announcements
        await announcements.wait()
        await asyncio.sleep(BATCH_SECONDS)
        taken = announcements.take()
        try:
            await self._notify(taken)
        except BaseException:
            announcements.add(taken)
            raise

    async def _notify(self, announcements: Sequence[str]) -> None:
        starts = range(0, len(announcements), ANNOUNCEMENTS_PER_NOTIFY)
        payloads = [" ".join(announcements[at : at + ANNOUNCEMENTS_PER_NOTIFY]) for at in starts]
        await repository.notify(self._database, CHANNEL, payloads)

    async def _deliver(self) -> None:
        await self._woken.wait()
        self._woken.clear()
        suspects, self._suspects = self._suspects, set()
        news, self._news = self._news, set()
        try:
            await self._check_accounts(suspects)
            await self._read_news(news)
        except BaseException:
            self._suspects |= suspects
            self._news |= news
            self._woken.set()
            raise

    async def _read_news(self, user_ids: set[UUID]) -> None:
        after = {user_id: self._feeds[user_id].seq for user_id in user_ids & self._feeds.keys()}
        if not after:
            return
        rows = await repository.list_events(self._database, after, PAGE_ROWS)
        for user_id, seq in after.items():
            feed = self._feeds.get(user_id)
            own = [row for row in rows if row.owner_id == user_id]
            # It may have gone meanwhile, and come again.
            if feed is None or not own or feed.seq != seq:
                continue
            feed.seq = own[-1].seq
            for stream in [*feed.streams]:
                stream.offer(own)
            if len(own) == PAGE_ROWS:
                self._wake(news={user_id}, suspects=set())

    async def _check_accounts(self, user_ids: set[UUID]) -> None:
        feeds = [self._feeds[user_id] for user_id in user_ids & self._feeds.keys()]
        followers = {stream: stream.follower for feed in feeds for stream in feed.streams}
        if not followers:
            return
        session_ids = {follower.session_id for follower in followers.values()}
        roles = await accounts.list_current_roles(self._database, session_ids)
        for stream, follower in followers.items():
            role = roles.get(follower.session_id)
            may_go_on = role is not None and EVENTS_READ in role.scopes
            # Unless another session has renewed it meanwhile.
            if not may_go_on and stream.follower is follower:
                stream.finish(SESSION_ENDED)

    async def _poll(self) -> None:
        for _ in range(CHECK_ACCOUNTS_SECONDS // POLL_SECONDS):
            await asyncio.sleep(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
            self._wake(news={*self._feeds}, suspects=set())
        self._wake(news=set(), suspects={*self._feeds})

    async def _leave(self) -> None:
        await self._drain.leaving.wait()
        for feed in self._feeds.values():
            for stream in feed.streams:
                stream.finish(LEAVING)
        await asyncio.Event().wait()


async def _repeat(job: Callable[[], Awaitable[None]]) -> None:
    failures = 0
    while True:
        try:
            await job()
        except Exception as error:
            failures += 1
            name = getattr(job, "__name__", "").strip("_")
            is_known = isinstance(error, _LOST)
            log.warning("events wait", job=name, reason=repr(error), exc_info=not is_known)
            # All workers lose the same database at the same moment.
            seconds = min(RETRY_SECONDS_MAX, 0.1 * 2**failures)
            await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311
        else:
            failures = 0
