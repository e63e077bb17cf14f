"""Gunicorn's hooks for a reload in which no worker leaves before its successor serves.

Gunicorn itself terminates the old workers as soon as the new ones are forked. These hooks raise
the number of workers for the time of the reload instead; the next hop is `app.server.worker`,
where every new worker, once ready, dismisses the ones it succeeds.
"""

import math
import signal

from gunicorn.arbiter import Arbiter

from app.server.worker import Worker


def on_reload(server: Arbiter) -> None:
    """Before the new workers are forked; gunicorn has just set num_workers from the settings."""
    for pid, worker in _workers(server).items():
        if not worker.has_served():
            server.kill_worker(pid, signal.SIGTERM)  # started by a reload that this one replaces
        worker.superseded = True
        # Gunicorn would wait for workers older than the reload, for up to graceful_timeout and
        # deaf to signals. Of the same age, they still count as older: they come first.
        worker.age = server.worker_age + 1
    server.num_workers += len(server.WORKERS)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Shares the superseded workers among those still to be forked."""
    siblings = _workers(server)
    dismissed = _dismissed(siblings)
    free = sorted(_superseded(siblings) - _claimed(siblings) - dismissed)
    to_fork = max(1, server.num_workers - len(siblings))
    worker.predecessors = free[: math.ceil(len(free) / to_fork)]
    worker.waits_for = dismissed if free else set()


def child_exit(server: Arbiter, worker: Worker) -> None:
    if worker.superseded:
        server.num_workers -= 1


def _superseded(workers: dict[int, Worker]) -> set[int]:
    return {pid for pid, worker in workers.items() if worker.superseded and worker.has_served()}


def _claimed(workers: dict[int, Worker]) -> set[int]:
    heirs = [worker for worker in workers.values() if not worker.superseded]
    return {pid for heir in heirs for pid in heir.predecessors}


def _dismissed(workers: dict[int, Worker]) -> set[int]:
    ready = [worker for worker in workers.values() if worker.has_served()]
    return {pid for worker in ready for pid in worker.predecessors} & workers.keys()


def _workers(server: Arbiter) -> dict[int, Worker]:
    """By process id, the oldest first."""
    return {pid: worker for pid, worker in server.WORKERS.items() if isinstance(worker, Worker)}
