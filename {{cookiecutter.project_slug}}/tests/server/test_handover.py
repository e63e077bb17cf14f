"""Which new worker replaces which old ones when gunicorn reloads or recycles."""

import signal
from dataclasses import dataclass, field
from typing import cast

import pytest
from gunicorn.arbiter import Arbiter

from server import handover
from server.worker import Worker

pytestmark = pytest.mark.system


class ForkedWorker(Worker):
    """As the master sees it; made without gunicorn's sockets and heartbeat file."""

    def __init__(self, *, ready: bool) -> None:
        self.ready = ready
        self.asks = False
        self.is_old = False
        self.replaces = []
        self.starts_after = set()

    def is_serving(self) -> bool:
        return self.ready

    def has_asked_for_successor(self) -> bool:
        return self.asks

    @property
    def end_reason(self) -> str:
        return "recycled" if self.asks else "reloaded"


@dataclass
class Master:
    num_workers: int
    WORKERS: dict[int, Worker] = field(default_factory=dict)
    worker_age: int = 0
    killed: list[tuple[int, int]] = field(default_factory=list)

    def fork(self, pid: int, *, ready: bool = True) -> ForkedWorker:
        worker = ForkedWorker(ready=ready)
        handover.pre_fork(cast("Arbiter", self), worker)
        self.WORKERS[pid] = worker
        return worker

    def recycle(self) -> None:
        handover.recycle(cast("Arbiter", self))

    def reload(self, workers: int) -> None:
        self.num_workers = workers
        handover.mark_old(cast("Arbiter", self))

    def reap(self, pid: int) -> None:
        handover.child_exit(cast("Arbiter", self), self.WORKERS.pop(pid))

    def kill_worker(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))


@pytest.fixture
def master() -> Master:
    master = Master(num_workers=2)
    master.fork(1)
    master.fork(2)
    return master


def test_nobody_is_replaced_when_workers_just_start(master: Master) -> None:
    assert [worker.replaces for worker in master.WORKERS.values()] == [[], []]


@pytest.mark.parametrize(
    ("workers", "expected"), [(1, [[1, 2]]), (2, [[1], [2]]), (3, [[1], [2], []])]
)
def test_old_workers_are_shared_among_the_new_when_reloading(
    master: Master, workers: int, expected: list[list[int]]
) -> None:
    master.reload(workers)
    assert [master.fork(3 + place).replaces for place in range(workers)] == expected


def test_gunicorn_neither_kills_nor_adds_when_the_old_have_left(master: Master) -> None:
    master.reload(2)
    master.fork(3)
    master.fork(4)
    assert master.num_workers == len(master.WORKERS) == 4
    master.reap(1)
    master.reap(2)
    assert master.num_workers == len(master.WORKERS) == 2


def test_next_worker_replaces_the_same_when_a_new_one_fails(master: Master) -> None:
    master.reload(2)
    master.fork(3, ready=False)
    master.fork(4)
    master.reap(3)
    assert master.fork(5).replaces == [1]


def test_worker_that_never_served_is_stopped_when_reloading_again(master: Master) -> None:
    master.reload(2)
    master.fork(3, ready=False)
    master.fork(4, ready=False)
    master.reload(2)
    assert master.killed == [(3, signal.SIGTERM), (4, signal.SIGTERM)]
    assert [master.fork(5).replaces, master.fork(6).replaces] == [[1], [2]]


def test_third_generation_waits_when_the_first_still_drains(master: Master) -> None:
    master.reload(2)
    master.fork(3)
    master.fork(4)
    master.reload(2)
    newest = master.fork(5)
    assert newest.starts_after == {1, 2}
    assert newest.replaces == [3]


def ask_for_successor(master: Master, *pids: int) -> None:
    for pid in pids:
        cast("ForkedWorker", master.WORKERS[pid]).asks = True


def test_successor_replaces_who_asked_for_it(master: Master) -> None:
    ask_for_successor(master, 2)
    master.recycle()
    assert master.num_workers == 3
    assert master.fork(3).replaces == [2]
    master.recycle()
    master.reap(2)
    assert master.num_workers == len(master.WORKERS) == 2


def test_each_has_a_successor_when_two_asked_at_once(master: Master) -> None:
    ask_for_successor(master, 1, 2)
    master.recycle()
    assert master.num_workers == 4
    assert [master.fork(3).replaces, master.fork(4).replaces] == [[1], [2]]


def test_nobody_is_added_when_who_asks_is_being_reloaded(master: Master) -> None:
    ask_for_successor(master, 1)
    master.reload(2)
    master.recycle()
    assert master.num_workers == 4
