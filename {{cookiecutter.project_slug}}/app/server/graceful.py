"""Uvicorn's server with an orderly end: announce, stop accepting, finish, close, within a limit.

Next hop: the app; `app.server.worker` runs it under gunicorn.
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

from app.server.drain import Drain

log = logging.getLogger(__name__)

# What the master or an operator sends to stop, to stop at once, and what a successor sends.
STOP = (signal.SIGTERM,)
STOP_AT_ONCE = (signal.SIGQUIT, signal.SIGINT)
SUCCEEDED = signal.SIGUSR2
SIGNALS = (*STOP, *STOP_AT_ONCE, SUCCEEDED)

# Between the end of accepting and the closing of idle connections: a connection accepted last
# has its request by then.
LAST_REQUEST_SECONDS = 1.0
# For cancelled requests to release what they hold before the lifespan closes it.
CANCEL_SECONDS = 0.5
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Patience:
    """`lame_duck_seconds` is a part of `drain_seconds`."""

    drain_seconds: float
    lame_duck_seconds: float


class GracefulServer(Server):
    def __init__(
        self,
        config: Config,
        patience: Patience,
        *,
        beat: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._patience = patience
        self._beat = beat
        self._on_ready = on_ready
        self._parent = os.getppid()
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
            sys.exit(0)  # nobody is connected: do not wait for the rest of the lifespan

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._beat()
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._beat()
        if os.getppid() != self._parent:
            log.error("The gunicorn master is gone")
            self._stopping = self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        began = time.monotonic()
        beating = asyncio.create_task(self._keep_beating())
        try:
            self._announce()
            await self._be_lame_duck(began + self._patience.lame_duck_seconds)
            await self._finish(began + self._patience.drain_seconds)
            await self.lifespan.shutdown()
        finally:
            beating.cancel()

    async def _keep_beating(self) -> None:
        # Bounded: a lifespan that never ends is killed like a stalled loop.
        for _ in range(int(self._patience.drain_seconds) + 2):
            self._beat()
            await asyncio.sleep(1)

    def _announce(self) -> None:
        log.info("Leaving with %d connections", len(self.server_state.connections))
        drain = self.lifespan.state.get("drain")
        if isinstance(drain, Drain):
            drain.begin(stopping=self._stopping)
        # nginx does not put a connection with this answer back into its pool.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if not hasattr(connection, "cycle"):
                connection.shutdown()  # a WebSocket: 1012, service restart
            elif cycle is not None and not cycle.response_complete:
                cycle.keep_alive = cycle.keep_alive and cycle.response_started

    async def _be_lame_duck(self, until: float) -> None:
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
        for connection in list(self.server_state.connections):
            connection.shutdown()
        state = self.server_state
        while (state.connections or state.tasks) and time.monotonic() < until:
            if self._at_once:
                break
            await asyncio.sleep(POLL_SECONDS)
        await self._cancel_the_rest()

    async def _cancel_the_rest(self) -> None:
        tasks = list(self.server_state.tasks)
        if not tasks:
            return
        log.error("The time to drain is over: %d requests are cancelled", len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
