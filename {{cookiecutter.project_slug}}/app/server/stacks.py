"""Writes every thread's and every task's stack before a stalled worker is killed."""

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

# A worker can hold thousands of tasks, and gunicorn kills 1 s after it aborts.
TASKS_SHOWN_MAX = 50
TASK_FRAMES_MAX = 20


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
