"""`manage work` with tasks that write into a file what they do."""

import asyncio
import os
import sys
import time
from pathlib import Path

from app.jobs import process
from app.jobs.queue import Backoff, queue
from app.settings import Settings
from server.settings import ServerSettings


def write(folder: str, line: str) -> None:
    with (Path(folder) / "lines").open("a") as file:  # one write, so lines stay whole
        file.write(f"{line} {os.getpid()}\n")


@queue.task(name="test.slow", retry=Backoff())
async def slow(folder: str, number: int, seconds: float) -> None:
    write(folder, f"begin {number}")
    await asyncio.sleep(seconds)
    write(folder, f"end {number}")


@queue.task(name="test.once")
async def once(folder: str, number: int, seconds: float) -> None:
    await slow(folder, number, seconds)


@queue.task(name="test.failing")
async def failing() -> None:
    raise RuntimeError("no")


@queue.task(name="test.blocking")
async def blocking() -> None:
    time.sleep(30)  # noqa: ASYNC251 (what a job must not do)


@queue.periodic(cron="* * * * * *")
@queue.task(name="test.period")
async def period(timestamp: int) -> None:
    write(os.environ["FOLDER"], f"period {timestamp}")


if __name__ == "__main__":
    if "periodic" not in sys.argv:
        queue.periodic_registry.periodic_tasks.clear()
    process.STUCK_SECONDS = int(os.environ.get("STUCK_SECONDS", "20"))
    process.run(Settings.load(), ServerSettings.load())
