"""The gunicorn worker: boots without endangering the others, leaves without losing a request.

Next hop: `app.server.graceful`, which serves the app.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from typing import ClassVar, NoReturn

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from app.server.graceful import SIGNALS, SUCCEEDED, GracefulServer, Patience
from app.server.settings import ServerSettings, uvicorn_options
from app.server.stacks import dump_stacks_on_abort

# Kept back from graceful_timeout for lifespan shutdown and exit hooks; then gunicorn kills.
SHUTDOWN_MARGIN_SECONDS = 2
# A replacement that cannot start tries again at this pace, while the others serve.
BOOT_RETRY_SECONDS = 5


class Worker(UvicornWorker):
    # Set by gunicorn.conf.py, in the master; a reload sets it again.
    settings: ClassVar[ServerSettings]
    first_workers: ClassVar[int] = 0

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.CONFIG_KWARGS = uvicorn_options(self.settings)
        super().__init__(*args, **kwargs)
        # The parent copies gunicorn's handlers, of which there are none: logs.py has them.
        logging.getLogger("uvicorn.error").propagate = True
        self.superseded = False
        self.predecessors: list[int] = []
        if self.age == 1:
            type(self).first_workers = self.cfg.workers

    def has_served(self) -> bool:
        """The heartbeat file has the time of its making, then seconds since the machine started."""
        return bool(self.tmp.last_update() <= time.monotonic())

    def load_wsgi(self) -> None:
        if not self.cfg.preload_app:
            _forget_modules_of_the_master()
        try:
            super().load_wsgi()
        except (Exception, SystemExit) as error:
            if not self._is_replacement():
                raise
            self.log.error("The app cannot be loaded: %s", error, exc_info=True)
            self._retry_later()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        graceful_seconds = max(1, self.cfg.graceful_timeout - SHUTDOWN_MARGIN_SECONDS)
        patience = Patience(graceful_seconds, self.settings.server_lame_duck_seconds)
        server = GracefulServer(
            self.config, patience, beat=self.notify, on_ready=self._dismiss_predecessors
        )
        dump_stacks_on_abort(asyncio.get_running_loop(), self.handle_abort)
        try:
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        except SystemExit:
            if not server.should_exit:
                self._give_up_boot()
            sys.exit(0)

    def _dismiss_predecessors(self) -> None:
        for pid in self.predecessors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SUCCEEDED)

    def _is_replacement(self) -> bool:
        return bool(self.age > self.first_workers)

    def _give_up_boot(self) -> NoReturn:
        # On this code gunicorn stops the whole service: right when it starts, an outage later.
        if not self._is_replacement():
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self._retry_later()

    def _retry_later(self) -> NoReturn:
        self.log.error("This worker cannot start; the next try is in %d s.", BOOT_RETRY_SECONDS)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(BOOT_RETRY_SECONDS)
        sys.exit(1)


def _forget_modules_of_the_master() -> None:
    # gunicorn.conf.py has imported settings and logs in the master, and a fork inherits them:
    # after a reload new code would meet old settings. Only the server layer stays the master's.
    for name in list(sys.modules):
        if name.startswith("app.") and not name.startswith("app.server"):
            del sys.modules[name]
