"""Gunicorn's master, with care for what serves: a reload, a fork or a signal must not end it."""

import io
import logging
import os
import select
import signal
from contextlib import redirect_stderr

from gunicorn.arbiter import Arbiter

from server.exporter import Exporter
from server.handover import recycle
from server.logs import set_debug
from server.metrics import Gauge
from server.worker import Worker

log = logging.getLogger("gunicorn.error")

# Reading the settings takes a second on a busy machine; meanwhile the master hears no signal.
RELOAD_CHECK_SECONDS = 10

_WORKERS = Gauge("server_workers", "Workers that serve; two generations while they reload")


class Master(Arbiter):
    # TTOU signals that wait for the end of a reload.
    postponed_ttou = 0
    # Set by gunicorn.conf.py; None without metrics.
    exporter: Exporter | None = None

    def handle_hup(self) -> None:
        """Gunicorn would end with the first mistake, and the service with it."""
        mistake = self._find_mistake()
        if not mistake:
            configuration = self.app.cfg
            try:
                super().handle_hup()
            except (Exception, SystemExit) as error:
                if os.getpid() != self.pid:
                    raise  # the end of a worker that was forked in there
                # A hook has found it, or a file has changed since it was tried.
                self.app.cfg = configuration
                mistake = " ".join(_reason(error).split())
        if mistake:
            log.error("Nothing is reloaded, the workers go on: %s", mistake)

    def handle_int(self) -> None:
        # Gunicorn would cut the requests. It still does at the second one.
        self.handle_term()

    def handle_usr2(self) -> None:
        # Whoever watches the first one would take its end for the end of the service.
        log.error("USR2 is refused: a second master is not supported; HUP reloads")

    def handle_ttou(self) -> None:
        self.postponed_ttou += 1

    def handle_usr1(self) -> None:
        """Debug lines on, or off again; gunicorn would reopen files, of which there are none."""
        Worker.debug[0] = is_on = not Worker.debug[0]
        set_debug(is_on, Worker.settings)
        log.info("Debug lines are %s", "on" if is_on else "off")
        self.kill_workers(signal.SIGUSR1)

    def manage_workers(self) -> None:
        """Gunicorn stops the oldest workers: while others start, those are all that serve."""
        recycle(self)
        workers = self.WORKERS.values()
        reloads = any(worker.is_old for worker in workers if isinstance(worker, Worker))
        if self.postponed_ttou and not reloads:
            self.num_workers = max(1, self.num_workers - self.postponed_ttou)
            self.postponed_ttou = 0
        if len(workers) > self.num_workers:
            for worker in workers:
                if isinstance(worker, Worker) and not worker.is_serving():
                    worker.age = 0
        super().manage_workers()
        self._watch_exporter()
        serving = [one for one in workers if isinstance(one, Worker) and one.is_serving()]
        _WORKERS.set(len(serving))

    def kill_worker(self, pid: int, sig: int) -> None:
        worker = self.WORKERS.get(pid)
        if isinstance(worker, Worker) and sig == signal.SIGTERM:
            worker.is_told_to_stop = True
        super().kill_worker(pid, sig)

    def _watch_exporter(self) -> None:
        try:
            if self.exporter is not None:
                self.exporter.keep_running(self.LISTENERS)
        except OSError as error:
            log.error("The metrics cannot be served: %s", error)

    def spawn_worker(self) -> int:
        try:
            return super().spawn_worker()
        except OSError as error:  # no process, file or memory is left; gunicorn tries every second
            log.error("No worker can be started: %s", error)
            return 0

    def _find_mistake(self) -> str:
        """Loads everything in a process of its own first, where it may break or hang."""
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            return str(error)
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(RELOAD_CHECK_SECONDS)
            os.write(writer, " ".join(self._try_to_load().split())[: select.PIPE_BUF].encode())
            os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8", errors="replace") as pipe:
            mistake = pipe.read()
        _, status = os.waitpid(pid, 0)
        return mistake or (f"it ended with status {status}" if status else "")

    def _try_to_load(self) -> str:
        address = self.cfg.address
        try:
            # gunicorn writes a traceback; its last sentence is enough.
            with redirect_stderr(io.StringIO()):
                self.app.reload()
                self.setup(self.app)
        except BaseException as error:
            return _reason(error)
        if self.cfg.address != address:
            return "another address needs a restart"
        return ""


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return error.code
        error = error.__context__ or error
    # gunicorn puts a traceback into some messages, below their first line.
    return f"{type(error).__name__}: {error}".splitlines()[0]
