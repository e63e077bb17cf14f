"""The gunicorn worker: starts without endangering the others, stops without losing a request.

The master makes the object and forks; `server.graceful` then serves the app in the new process.
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
from threading import Thread
from types import FrameType
from typing import ClassVar, NoReturn, cast

from gunicorn.arbiter import Arbiter
from gunicorn.sock import BaseSocket
from uvicorn_worker import UvicornWorker

from server.graceful import REPLACED, SIGNALS, STOP, DrainLimits, GracefulServer
from server.logs import set_debug
from server.metrics import METRICS_VARIABLE, use_own_files
from server.settings import ServerSettings
from server.uvicorn_options import read_uvicorn_options

log = logging.getLogger(__name__)

# Kept back from graceful_timeout for lifespan shutdown and exit hooks; then gunicorn kills.
SHUTDOWN_MARGIN_SECONDS = 2
# A replacement that cannot start tries again at this pace, while the others serve.
BOOT_RETRY_SECONDS = 5
POLL_SECONDS = 0.1
# To write the stacks of all tasks.
ABORT_SECONDS = 3
# A worker can hold thousands of tasks, and gunicorn kills 1 s after it aborts.
TASKS_SHOWN_MAX = 50
TASK_FRAMES_MAX = 20

# What a worker says to the master, a byte each.
_ASKS_FOR_SUCCESSOR, _SERVES = 0, 1


class Worker(UvicornWorker):
    # Set in the master by `configure`; each worker has a copy from its fork.
    settings: ClassVar[ServerSettings]
    # Shared memory: the master writes it, workers read it when they begin and at SIGUSR1.
    debug: ClassVar[mmap.mmap] = mmap.mmap(-1, 1)

    @classmethod
    def configure(cls) -> ServerSettings:
        """Read the settings, for the workers that are forked from now on."""
        cls.settings = ServerSettings.load()
        # The parent's name for Uvicorn's options. The heartbeat is GracefulServer's.
        cls.CONFIG_KWARGS = {**read_uvicorn_options(), "callback_notify": None}
        return cls.settings

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """From the master; gunicorn's would reopen files, of which there are none."""
        set_debug(self.debug[0] == 1, self.settings)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        # The parent gives them gunicorn's handlers instead, but logs.py has put ours at the root.
        logging.getLogger("uvicorn.error").propagate = True
        # Uvicorn writes access lines whenever this logger has a handler somewhere.
        logging.getLogger("uvicorn.access").propagate = self.config.access_log

        # Only the master sets and reads these (server/handover.py).
        self.is_old = False
        self.is_told_to_stop = False

        # The master sets these before the fork, the worker reads its copy: process ids.
        self.replaces: list[int] = []
        self.starts_after: set[int] = set()

        # Only the worker.
        self._serves = False

        # Shared memory: the worker writes these bytes, the master reads them.
        self._said = mmap.mmap(-1, 2)

    def has_asked_for_successor(self) -> bool:
        """In the master: this worker is at its SERVER_MAX_REQUESTS-th request."""
        return self._said[_ASKS_FOR_SUCCESSOR] == 1

    @property
    def end_reason(self) -> str:
        """In the master, once it has gone: a word for the metrics."""
        if self.aborted:
            return "stalled"
        if not self._said[_SERVES]:
            return "not_started"
        if self.is_old:
            return "recycled" if self.has_asked_for_successor() else "reloaded"
        return "stopped" if self.is_told_to_stop else "crashed"

    def is_serving(self) -> bool:
        """In the master: there was a heartbeat, the worker's change of time of a shared file.

        The file begins with the time of day, a heartbeat sets seconds since the machine started.
        """
        return bool(self.tmp.last_update() <= time.monotonic())

    def load_wsgi(self) -> None:
        self._wait_for_earlier_reload()
        faulthandler.enable(all_threads=True)
        # For code that does not let the thread below run. Default: never.
        boot_seconds = self.settings.server_boot_seconds
        faulthandler.dump_traceback_later(boot_seconds + ABORT_SECONDS, exit=True)
        Thread(target=self._watch, args=(boot_seconds,), daemon=True).start()
        if not self.cfg.preload_app:
            _forget_modules_of_the_master()
        if METRICS_VARIABLE in os.environ:
            use_own_files()
        try:
            super().load_wsgi()
        except (Exception, SystemExit) as error:
            with_traceback = isinstance(error, Exception)
            self.log.error("The app cannot be loaded: %s", error, exc_info=with_traceback)
            self._fail_to_start()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        graceful_seconds = max(1, self.cfg.graceful_timeout - SHUTDOWN_MARGIN_SECONDS)
        limits = DrainLimits(graceful_seconds, self.settings.server_lame_duck_seconds)
        server = GracefulServer(
            self.config,
            limits,
            heartbeat=self.notify,
            on_ready=self._begin_to_serve,
            on_max_requests=self._ask_for_successor,
        )
        dump_stacks_on_abort(asyncio.get_running_loop(), then=self._abort)
        try:
            listeners = cast("list[BaseSocket]", self.sockets)
            await server.serve(sockets=[listener.sock for listener in listeners])
        except SystemExit:
            if not server.should_exit:
                self._fail_to_start()
            sys.exit(0)

    def _wait_for_earlier_reload(self) -> None:
        # Memory and connections to the database are planned for two generations, not for three.
        until = time.monotonic() + self.cfg.graceful_timeout
        while any(map(_is_alive, self.starts_after)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _abort(self) -> NoReturn:
        self.cfg.worker_abort(self)
        # Gunicorn raises SystemExit here, which uvicorn takes for an error of the request.
        os._exit(1)

    def _watch(self, boot_seconds: float) -> None:
        """In a thread: neither a hanging start nor a dead master leaves a worker for ever.

        Gunicorn counts heartbeats from the first one on, and only while it lives.
        """
        until = time.monotonic() + boot_seconds
        while self._has_master() and (self._serves or time.monotonic() < until):
            time.sleep(1)
        if self._has_master():
            log.error("This worker did not start within %g s (SERVER_BOOT_SECONDS)", boot_seconds)
            os.kill(os.getpid(), signal.SIGABRT)
            time.sleep(ABORT_SECONDS)
        else:
            log.error("The gunicorn master is gone")
            os.kill(os.getpid(), STOP)
            time.sleep(self.cfg.graceful_timeout)
        os._exit(1)

    def _has_master(self) -> bool:
        return os.getppid() == self.ppid

    def _begin_to_serve(self) -> None:
        self._serves = True
        self._said[_SERVES] = 1
        if self.debug[0]:
            set_debug(True, self.settings)
        faulthandler.cancel_dump_traceback_later()
        for pid in self.replaces:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, REPLACED)

    def _ask_for_successor(self) -> None:
        self._said[_ASKS_FOR_SUCCESSOR] = 1

    def _fail_to_start(self) -> NoReturn:
        # This exit code makes gunicorn stop the whole service. That is right while it starts and an
        # outage later, so only the first worker of a master uses it. From two workers at once it
        # would end the master with a traceback.
        if self.age == 1:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self.log.error("This worker cannot start; the next try is in %d s.", BOOT_RETRY_SECONDS)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(BOOT_RETRY_SECONDS)
        sys.exit(1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _forget_modules_of_the_master() -> None:
    # The master has imported `server` for gunicorn.conf.py, and a fork inherits it: after a
    # deployment and a reload the app's new code would import the old modules. This class stays.
    for name in list(sys.modules):
        if name.startswith("server."):
            del sys.modules[name]


def dump_stacks_on_abort(loop: asyncio.AbstractEventLoop, then: Callable[[], NoReturn]) -> None:
    def dump_tasks(_number: int, _frame: FrameType | None) -> None:
        try:
            write_task_stacks(loop)
        finally:
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
