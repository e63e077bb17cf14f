"""Gunicorn's hooks for a reload in which no worker leaves before its successor serves.

Gunicorn itself terminates the old workers as soon as the new ones are forked. These hooks raise
the number of workers for the time of the reload instead; the next hop is `app.server.worker`,
where every new worker, once ready, dismisses the ones it succeeds.
"""

import math
import signal
import time

from gunicorn.arbiter import Arbiter

from app.server.worker import Worker

POLL_SECONDS = 0.1


def on_reload(server: Arbiter) -> None:
    """Before the new workers are forked; gunicorn has just set num_workers from the settings."""
    _finish_earlier_reload(server)
    for worker in _workers(server):
        worker.superseded = True
    server.num_workers += len(server.WORKERS)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Shares the superseded workers among those still to be forked."""
    claimed = {pid for other in _workers(server) for pid in other.predecessors}
    free = [w.pid for w in _workers(server) if w.superseded and w.pid not in claimed]
    to_fork = max(1, server.num_workers - len(server.WORKERS))
    worker.predecessors = free[: math.ceil(len(free) / to_fork)]


def child_exit(server: Arbiter, worker: Worker) -> None:
    if worker.superseded:
        server.num_workers -= 1


def _finish_earlier_reload(server: Arbiter) -> None:
    # Two generations at most, for the sake of memory and of the connections to the database.
    for worker in _workers(server):
        if not worker.has_served():
            server.kill_worker(worker.pid, signal.SIGTERM)
    until = time.monotonic() + server.cfg.graceful_timeout
    while _dismissed(server) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        server.reap_workers()


def _dismissed(server: Arbiter) -> set[int]:
    ready = [worker for worker in _workers(server) if worker.has_served()]
    return {pid for worker in ready for pid in worker.predecessors} & server.WORKERS.keys()


def _workers(server: Arbiter) -> list[Worker]:
    workers = [worker for worker in server.WORKERS.values() if isinstance(worker, Worker)]
    return sorted(workers, key=lambda worker: worker.age)
