"""The gunicorn worker: boots without endangering the others, leaves without losing a request.

Next hop: `server.graceful`, which serves the app.
"""

import asyncio
import contextlib
import faulthandler
import logging
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import ClassVar, NoReturn, cast

from gunicorn.arbiter import Arbiter
from gunicorn.sock import BaseSocket
from uvicorn_worker import UvicornWorker

from server.graceful import SIGNALS, SUCCEEDED, DrainLimits, GracefulServer
from server.settings import ServerSettings, uvicorn_options

# Kept back from graceful_timeout for lifespan shutdown and exit hooks; then gunicorn kills.
SHUTDOWN_MARGIN_SECONDS = 2
# A replacement that cannot start tries again at this pace, while the others serve.
BOOT_RETRY_SECONDS = 5
POLL_SECONDS = 0.1
# A worker can hold thousands of tasks, and gunicorn kills 1 s after it aborts.
TASKS_SHOWN_MAX = 50
TASK_FRAMES_MAX = 20


class Worker(UvicornWorker):
    # Set by gunicorn.conf.py, in the master; a reload sets it again.
    settings: ClassVar[ServerSettings]

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.CONFIG_KWARGS = {**uvicorn_options(), "callback_notify": None}
        super().__init__(*args, **kwargs)
        # The parent copies gunicorn's handlers, of which there are none: logs.py has them.
        logging.getLogger("uvicorn.error").propagate = True
        self.superseded = False
        self.is_heard = False
        self.predecessors: list[int] = []
        self.waits_for: set[int] = set()
        # A byte that the worker writes and the master, which forks it, can read.
        self._has_enough = mmap.mmap(-1, 1)

    def has_served(self) -> bool:
        """The heartbeat file has the time of its making, then seconds since the machine started."""
        return bool(self.tmp.last_update() <= time.monotonic())

    def has_enough(self) -> bool:
        """True from its SERVER_MAX_REQUESTS-th request on."""
        return self._has_enough[0] == 1

    def load_wsgi(self) -> None:
        self._await_earlier_reload()
        if not self.cfg.preload_app:
            _forget_modules_of_the_master()
        try:
            super().load_wsgi()
        except (Exception, SystemExit) as error:
            if self._is_first():
                raise
            self.log.error(
                "The app cannot be loaded: %s", error, exc_info=isinstance(error, Exception)
            )
            self._retry_later()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        graceful_seconds = max(1, self.cfg.graceful_timeout - SHUTDOWN_MARGIN_SECONDS)
        limits = DrainLimits(graceful_seconds, self.settings.server_lame_duck_seconds)
        server = GracefulServer(
            self.config,
            limits,
            beat=self.notify,
            on_ready=self._dismiss_predecessors,
            on_enough=self._ask_for_successor,
        )
        dump_stacks_on_abort(asyncio.get_running_loop(), then=self._abort)
        try:
            listeners = cast("list[BaseSocket]", self.sockets)
            await server.serve(sockets=[listener.sock for listener in listeners])
        except SystemExit:
            if not server.should_exit:
                self._give_up_boot()
            sys.exit(0)

    def _await_earlier_reload(self) -> None:
        # Two generations at a time, for the sake of memory and of connections to the database.
        until = time.monotonic() + self.cfg.graceful_timeout
        while any(map(_lives, self.waits_for)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _abort(self) -> NoReturn:
        self.cfg.worker_abort(self)
        # Gunicorn raises SystemExit here, which uvicorn takes for an error of the request.
        os._exit(1)

    def _dismiss_predecessors(self) -> None:
        for pid in self.predecessors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SUCCEEDED)

    def _ask_for_successor(self) -> None:
        self._has_enough[0] = 1
        os.kill(self.ppid, signal.SIGTTIN)

    def _is_first(self) -> bool:
        # Only the first worker's failure may stop the whole service, and it does when gunicorn
        # sees this exit code: right for a service that starts, an outage for one that runs. The
        # code from two workers at once ends the master with a traceback.
        return bool(self.age == 1)

    def _give_up_boot(self) -> NoReturn:
        if self._is_first():
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self._retry_later()

    def _retry_later(self) -> NoReturn:
        self.log.error("This worker cannot start; the next try is in %d s.", BOOT_RETRY_SECONDS)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(BOOT_RETRY_SECONDS)
        sys.exit(1)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _forget_modules_of_the_master() -> None:
    # gunicorn.conf.py has imported settings and logs in the master, and a fork inherits them:
    # after a reload, new code would meet old settings. This class itself stays the master's.
    for name in list(sys.modules):
        if name.startswith("server."):
            del sys.modules[name]


def dump_stacks_on_abort(loop: asyncio.AbstractEventLoop, then: Callable[[], NoReturn]) -> None:
    def dump_tasks(_number: int, _frame: FrameType | None) -> None:
        write_task_stacks(loop)
        then()

    # The threads are written by a handler in C, which runs even if the loop is stuck in C code;
    # it then raises the signal again for the handler that was there when it was enabled.
    # https://docs.python.org/3/library/faulthandler.html#faulthandler.enable
    faulthandler.disable()
    signal.signal(signal.SIGABRT, dump_tasks)
    faulthandler.enable(file=sys.stderr, all_threads=True)


def write_task_stacks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    sys.stderr.write(f"{len(tasks)} tasks of the stalled event loop, newest call last:\n")
    for task in list(tasks)[:TASKS_SHOWN_MAX]:
        task.print_stack(limit=TASK_FRAMES_MAX, file=sys.stderr)
    sys.stderr.flush()
