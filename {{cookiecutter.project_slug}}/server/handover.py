"""Gunicorn's hooks for reloads and recyclings in which no worker leaves before another serves.

Gunicorn itself terminates the old workers as soon as the new ones are forked, and lets a worker
that has answered `max_requests` leave before. These hooks raise the number of workers meanwhile;
the next hop is `server.worker`, where every new worker dismisses those it succeeds.
"""

import math
import signal

from gunicorn.arbiter import Arbiter

from server.worker import Worker


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


def nworkers_changed(server: Arbiter, number: int, former: int | None) -> None:
    """TTIN comes from an operator, or from a worker that has had enough requests."""
    workers = _workers(server).values()
    unheard = [worker for worker in workers if worker.has_enough() and not worker.is_heard]
    if former is None or number != former + 1 or not unheard:
        return
    for worker in unheard:
        worker.is_heard = True
    # Signals at the same moment come as one, and who is being reloaded has a successor already.
    leaving = [worker for worker in unheard if not worker.superseded]
    for worker in leaving:
        worker.superseded = True
    server.num_workers = former + len(leaving)


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
