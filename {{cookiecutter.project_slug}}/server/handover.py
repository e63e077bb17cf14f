"""Gunicorn's hooks, in the master: on a reload no old worker stops before a new one serves.

Gunicorn alone stops the old workers as soon as the new ones are forked. A reload goes like this:

    operator    -> master       SIGHUP: gunicorn reads gunicorn.conf.py again
    master         mark_old     marks all workers as old and raises num_workers by their number,
                                so that gunicorn forks new ones and stops none
    master         pre_fork     tells each new worker which old ones it replaces, then forks it
    new worker                  waits until workers of an earlier reload are gone, loads the app,
                                runs its lifespan, listens
    new worker  -> master       first heartbeat: it serves
    new worker  -> old workers  SIGUSR2: you are replaced
    old worker                  stops accepting, finishes its requests, exits
    master         child_exit   lowers num_workers by one

A new worker that fails exits with 1 and gunicorn forks the next one, with the same old ones to
replace. Recycling is the same for one worker: at SERVER_MAX_REQUESTS it sets a shared byte, which
the master reads (`server/arbiter.py`).
"""

import math
import signal

from gunicorn.arbiter import Arbiter

from server.exporter import Exporter
from server.metrics import Counter
from server.worker import Worker

_STARTS = Counter("server_worker_starts_total", "Workers that were forked")
_ENDS = Counter("server_worker_ends_total", "Workers that have gone, by reason", "reason")


def mark_old(server: Arbiter) -> None:
    """Before the new workers are forked; gunicorn has just set num_workers from the settings."""
    for pid, worker in _workers(server).items():
        if not worker.is_serving():
            server.kill_worker(pid, signal.SIGTERM)  # started by a reload that this one replaces
        worker.is_old = True
        # Gunicorn would block, deaf to signals, for up to graceful_timeout until all workers with a
        # lower age than the new ones are gone. Of the same age, the old still come first in the
        # list from which it stops workers that are too many.
        worker.age = server.worker_age + 1
    server.num_workers += len(server.WORKERS)


def recycle(server: Arbiter) -> None:
    """Every second: a worker at its SERVER_MAX_REQUESTS gets a successor, as in a reload."""
    for worker in _workers(server).values():
        if worker.has_asked_for_successor() and not worker.is_old:
            worker.is_old = True
            server.num_workers += 1


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Divides the old workers among the new ones that are still to be forked."""
    workers = _workers(server)
    old = {pid for pid, one in workers.items() if one.is_old and one.is_serving()}
    taken = {pid for one in workers.values() if not one.is_old for pid in one.replaces}
    stopping = workers.keys() & {
        pid for one in workers.values() if one.is_serving() for pid in one.replaces
    }
    free = sorted(old - taken - stopping)
    to_fork = max(1, server.num_workers - len(workers))
    worker.replaces = free[: math.ceil(len(free) / to_fork)]
    worker.starts_after = stopping if free else set()
    _STARTS.add()
    # An alert sees what is added to a counter, not where it began.
    for reason in ("crashed", "stalled", "not_started"):
        _ENDS.add(0, reason)


def child_exit(server: Arbiter, worker: Worker) -> None:
    _ENDS.add(1, worker.end_reason)
    exporter: Exporter | None = getattr(server, "exporter", None)
    if exporter is not None:
        exporter.retire(int(worker.pid))
    if worker.is_old:
        server.num_workers -= 1


def _workers(server: Arbiter) -> dict[int, Worker]:
    """By process id, the oldest first."""
    return {pid: worker for pid, worker in server.WORKERS.items() if isinstance(worker, Worker)}
