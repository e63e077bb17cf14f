"""Uvicorn's server with a graceful stop: announce, stop accepting, finish, close, in this order."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import Server

from server.output import standard_output
from server.vitals import TICKS_PER_SECOND, Vitals

if TYPE_CHECKING:
    from uvicorn.server import Protocols

log = logging.getLogger(__name__)

# gunicorn's graceful and quick shutdown. https://gunicorn.org/signals/
STOP = signal.SIGTERM
QUICK_STOP = signal.SIGQUIT
# From a new worker to the old one that it replaces.
REPLACED = signal.SIGUSR2
# Ctrl-C reaches master and workers: it drains, and the second one makes the master send QUICK_STOP.
SIGNALS = (STOP, QUICK_STOP, signal.SIGINT, REPLACED)

# Between the end of accepting and the closing of idle connections: time for the request on the
# connection that was accepted last.
LAST_REQUEST_SECONDS = 1.0
# For cancelled requests to return their connections before the lifespan closes the pool.
CANCEL_SECONDS = 0.5
# What is left of the time to drain is the lifespan's, and this much at least; gunicorn kills 2 s
# after the time to drain.
LIFESPAN_SECONDS = 1.0
POLL_SECONDS = 0.05
# A peer that reads nothing for so long is cut off when its connection is to close.
UNREAD_SECONDS = 3.0


class Drain:
    """What the app is told, if its lifespan has put a Drain into its state as `drain`.

    `leaving`: this worker stops, so end its streams. `stopping`: no other worker takes over.
    """

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.stopping = False

    def begin(self, *, stopping: bool) -> None:
        self.stopping = stopping
        self.leaving.set()


@dataclass(frozen=True)
class DrainLimits:
    """In the first seconds of `total_seconds` a lame duck serves the connections it still has."""

    total_seconds: float
    lame_duck_seconds: float


class GracefulServer(Server):
    def __init__(
        self,
        config: Config,
        limits: DrainLimits,
        *,
        heartbeat: Callable[[], None],
        on_ready: Callable[[], None],
        on_max_requests: Callable[[], None],
    ) -> None:
        super().__init__(config)
        # Uvicorn would stop at this number of requests, before a successor serves.
        self._max_requests, config.limit_max_requests = config.limit_max_requests, None
        self._limits = limits
        self._heartbeat = heartbeat
        self._on_ready = on_ready
        self._on_max_requests = on_max_requests
        self._service_stops = False
        self._is_quick = False
        # Bytes that wait in connections that are closed, and since when it is this number.
        self._unread: dict[Protocols, tuple[int, float]] = {}
        self._vitals = Vitals()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn raises the signal again when it is done; that kills the process before
        # gunicorn's worker_exit hook and before every atexit handler.
        for number in SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # the master repeats itself while we exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._is_quick = self._is_quick or sig == QUICK_STOP
        self._service_stops = self._service_stops or sig != REPLACED
        self.should_exit = True
        if not self.started:
            # Nobody is connected: do not wait for the startup, nor log its end as an error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            sys.exit(0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._heartbeat()
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        # Uvicorn's own heartbeat comes every timeout / 2 by the time of
        # day: a stall would last 14 to 30 s, and a clock that is set back would kill workers.
        if counter % TICKS_PER_SECOND == 0:
            self._heartbeat()
            standard_output().flush()
            self._tell_vitals()
        self._vitals.tick()
        self._count_requests()
        return await super().on_tick(counter)

    def _tell_vitals(self) -> None:
        state = self.server_state
        measure = self.lifespan.state.get("measure")
        self._vitals.tell(len(state.tasks), len(state.connections), measure)

    def _count_requests(self) -> None:
        limit = self._max_requests
        if limit is not None and self.server_state.total_requests >= limit:
            log.info("max_requests (%d) is reached: a successor is asked for", limit)
            self._max_requests = None
            self._on_max_requests()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        began = time.monotonic()
        heartbeats = asyncio.create_task(self._send_heartbeats())
        try:
            self._announce()
            await self._serve_as_lame_duck(began + self._limits.lame_duck_seconds)
            until = began + self._limits.total_seconds
            await self._finish(until)
            await self._end_lifespan(until + LIFESPAN_SECONDS)
        finally:
            heartbeats.cancel()

    async def _send_heartbeats(self) -> None:
        # Not for ever: gunicorn is to kill a worker whose lifespan does not end.
        for _ in range(int(self._limits.total_seconds) + 2):
            self._heartbeat()
            await asyncio.sleep(1)

    def _announce(self) -> None:
        log.info("Leaving with %d connections", len(self.server_state.connections))
        drain: Drain | None = self.lifespan.state.get("drain")
        if drain is not None:
            drain.begin(stopping=self._service_stops)
        # With this header nginx does not use the connection again.
        closing = [*self.server_state.default_headers, (b"connection", b"close")]
        self.server_state.default_headers = closing
        for connection in list(self.server_state.connections):
            if not hasattr(connection, "cycle"):
                # A WebSocket; 1012: service restart. Uvicorn would answer a handshake with 500.
                if getattr(connection, "handshake_complete", True):
                    _close(connection)
            elif connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.default_headers = closing

    async def _serve_as_lame_duck(self, until: float) -> None:
        """Serve the connections there are; nginx closes them first, as soon as they are idle."""
        while self.server_state.connections and time.monotonic() < until and not self._is_quick:
            # When the whole service stops, accept a little longer: probes are to see the 503.
            if not self._service_stops or time.monotonic() > until - LAST_REQUEST_SECONDS:
                self._stop_accepting()
            await asyncio.sleep(POLL_SECONDS)
        self._stop_accepting()

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()

    async def _finish(self, until: float) -> None:
        state = self.server_state
        for connection in list(state.connections):
            if not connection.transport.is_closing():
                _close(connection)
        while (state.connections or state.tasks) and time.monotonic() < until:
            if self._is_quick:
                break
            self._cut_off_unread()
            await asyncio.sleep(POLL_SECONDS)
        if state.tasks:
            await self._cancel(set(state.tasks))

    def _cut_off_unread(self) -> None:
        """A connection that is closed stays until its last bytes are read; some peers never do."""
        now, seen = time.monotonic(), self._unread
        self._unread = {}
        for connection in list(self.server_state.connections):
            transport = connection.transport
            if not transport.is_closing():
                continue
            size = transport.get_write_buffer_size()
            former_size, since = seen.get(connection, (size, now))
            self._unread[connection] = (size, since if size == former_size else now)
            if size == former_size and now - since > UNREAD_SECONDS:
                transport.abort()

    async def _end_lifespan(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(LIFESPAN_SECONDS, until - time.monotonic())):
                await self.lifespan.shutdown()
        except TimeoutError:
            log.error("The lifespan did not end in time; the worker exits")

    async def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        log.error("The time to drain is over: %d requests are cancelled", len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


def _close(connection: "Protocols") -> None:
    try:
        connection.shutdown()
    except Exception:
        # The others still have their requests.
        log.exception("A connection could not be closed and is cut off")
        connection.transport.abort()
