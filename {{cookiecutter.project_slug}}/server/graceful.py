"""Uvicorn's server with an orderly end: announce, stop accepting, finish, close, within a limit.

Next hop: the app; `server.worker` runs it under gunicorn.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from uvicorn.config import Config
from uvicorn.server import Server

log = logging.getLogger(__name__)

# From gunicorn's master or an operator: stop, and stop at once. From a worker that took over: go.
STOP = signal.SIGTERM
STOP_AT_ONCE = (signal.SIGQUIT, signal.SIGINT)
SUCCEEDED = signal.SIGUSR2
SIGNALS = (STOP, *STOP_AT_ONCE, SUCCEEDED)

# From the end of accepting to the closing of idle connections: the connection accepted last has
# had its request by then.
LAST_REQUEST_SECONDS = 1.0
# For cancelled requests to give back what they hold before the lifespan closes it.
CANCEL_SECONDS = 0.5
POLL_SECONDS = 0.05


class Drain:
    """`leaving` ends this worker's streams; `stopping` means that no other worker takes over."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.stopping = False

    def begin(self, *, stopping: bool) -> None:
        self.stopping = stopping
        self.leaving.set()


@dataclass(frozen=True)
class DrainLimits:
    """The first seconds of `total_seconds` are the lame duck's."""

    total_seconds: float
    lame_duck_seconds: float


class GracefulServer(Server):
    def __init__(
        self,
        config: Config,
        limits: DrainLimits,
        *,
        beat: Callable[[], None],
        on_ready: Callable[[], None],
        on_enough: Callable[[], None],
    ) -> None:
        super().__init__(config)
        # Uvicorn would leave at once, before anybody takes over.
        self._enough_requests, config.limit_max_requests = config.limit_max_requests, None
        self._limits = limits
        self._beat = beat
        self._on_ready = on_ready
        self._on_enough = on_enough
        self._master_pid = os.getppid()
        self._stopping = False
        self._at_once = False

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
        self._at_once = self._at_once or sig in STOP_AT_ONCE
        self._stopping = self._stopping or sig != SUCCEEDED
        self.should_exit = True
        if not self.started:
            # Nobody is connected: do not wait for the lifespan, nor call its end an error.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            sys.exit(0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.config.access_log:
            _let_access_lines_through()
        self._beat()
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        # Ten ticks are a second. Uvicorn would beat every timeout / 2 and by the wall clock, so
        # that a stall is tolerated for 14 to 30 s, and not at all when the clock is set back.
        if counter % 10 == 0:
            self._beat()
        self._count_requests()
        if os.getppid() != self._master_pid:
            log.error("The gunicorn master is gone")
            self._stopping = self.should_exit = True
        return await super().on_tick(counter)

    def _count_requests(self) -> None:
        enough = self._enough_requests
        if enough is not None and self.server_state.total_requests >= enough:
            log.info("%d requests are enough: a successor is asked for", enough)
            self._enough_requests = None
            self._on_enough()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        began = time.monotonic()
        beating = asyncio.create_task(self._keep_beating())
        try:
            self._announce()
            await self._serve_as_lame_duck(began + self._limits.lame_duck_seconds)
            await self._finish(began + self._limits.total_seconds)
            await self.lifespan.shutdown()
        finally:
            beating.cancel()

    async def _keep_beating(self) -> None:
        # Bounded: a lifespan that never ends is killed like a stalled loop.
        for _ in range(int(self._limits.total_seconds) + 2):
            self._beat()
            await asyncio.sleep(1)

    def _announce(self) -> None:
        log.info("Leaving with %d connections", len(self.server_state.connections))
        drain: Drain | None = self.lifespan.state.get("drain")
        if drain is not None:
            drain.begin(stopping=self._stopping)
        # nginx does not put a connection with this answer back into its pool.
        closing = [*self.server_state.default_headers, (b"connection", b"close")]
        self.server_state.default_headers = closing
        for connection in list(self.server_state.connections):
            if not hasattr(connection, "cycle"):
                connection.shutdown()  # a WebSocket; 1012: service restart
            elif connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.default_headers = closing

    async def _serve_as_lame_duck(self, until: float) -> None:
        """Serves the connections it has until nginx, whose patience is shorter, closed them."""
        while self.server_state.connections and time.monotonic() < until and not self._at_once:
            # Others accept unless the whole service stops; then probes must see the 503 first.
            if not self._stopping or time.monotonic() > until - LAST_REQUEST_SECONDS:
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
                connection.shutdown()
        while (state.connections or state.tasks) and time.monotonic() < until:
            if self._at_once:
                break
            await asyncio.sleep(POLL_SECONDS)
        if state.tasks:
            await self._cancel(set(state.tasks))

    async def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        log.error("The time to drain is over: %d requests are cancelled", len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


def _let_access_lines_through() -> None:
    # logs.py silences them, because the middleware writes a better line.
    access = logging.getLogger("uvicorn.access")
    access.setLevel(logging.INFO)
    access.propagate = True
